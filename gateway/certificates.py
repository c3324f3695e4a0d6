# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA of the gateway's own, and the listeners' certificate that it signs, kept in DATA."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CA_LIFE = timedelta(days=3650)
_LIFE = timedelta(days=397)
_RENEW = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM: what listeners show, and the CA that clients are given (None: not ours)."""

    cert_path: Path
    key_path: Path
    ca_path: Path | None


def self_made(data: Path, names: Iterable[str] = ()) -> Certificate:
    """The CA (DATA/ca.pem) and a certificate for `names` and loopback, made or renewed if need be.

    Valid for verify-full on each of the names. Raises OSError.
    """
    folder = data / "tls"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Certificate(folder / "server.pem", folder / "server.key", data / "ca.pem")
    wanted = tuple(dict.fromkeys((*LOOPBACK, *names)))
    if not (folder / "ca.key").exists() or not (data / "ca.pem").exists():
        _make_ca(folder / "ca.key", data / "ca.pem")
        made.cert_path.unlink(missing_ok=True)
    if not _still_good(made, wanted):
        _make_server(folder / "ca.key", made, wanted)
    return made


def _still_good(made: Certificate, names: tuple[str, ...]) -> bool:
    if not (made.cert_path.exists() and made.key_path.exists()):
        return False
    now = datetime.now(UTC)
    served = x509.load_pem_x509_certificate(made.cert_path.read_bytes())
    held = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return served.not_valid_after_utc - now > _RENEW and list(held) == _general_names(names)


def _general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _builder(subject: str, issuer: x509.Name | None, life: timedelta) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    # An hour back: a client whose clock is a little behind must not refuse us.
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + life)
    )


def _make_ca(key_path: Path, ca_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    built = (
        _builder("Trailgate CA of this gateway", None, _CA_LIFE)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(key_path, _key_pem(key))
    ca_path.write_bytes(built.public_bytes(serialization.Encoding.PEM))


def _make_server(ca_key_path: Path, made: Certificate, names: tuple[str, ...]) -> None:
    assert made.ca_path is not None
    ca = x509.load_pem_x509_certificate(made.ca_path.read_bytes())
    ca_key = serialization.load_pem_private_key(ca_key_path.read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    built = (
        _builder("Trailgate", ca.subject, _LIFE)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = built.public_bytes(serialization.Encoding.PEM)
    write_private(made.key_path, _key_pem(key))
    made.cert_path.write_bytes(pem)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may ever read; replaces one that is there."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    beside.replace(path)
