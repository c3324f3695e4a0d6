# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS over `ssl.SSLObject`: contexts, the byte engine of one link, and channel binding.

It moves bytes only; sockets belong to link.py. asyncio's own TLS keeps about 300 KiB a link, here
the plain text of all links passes through one shared buffer.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from gateway.model import Tls

_SLICE = 32 * 1024
"""OpenSSL's memory BIOs never shrink: small steps bound what one link keeps after bulk."""
_shared = bytearray(256 * 1024)
_view = memoryview(_shared)


class TlsFailed(Exception):
    """The handshake failed or the peer broke TLS; the text is safe to log."""


class Engine:
    """TLS on one link: bytes of the wire in, plain text out, and the other way round.

    After every call the bytes that `pending` returns must be sent.
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "ended", "established")

    def __init__(
        self, context: ssl.SSLContext, *, server: bool, server_name: str | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=server_name
        )
        self.established = False
        self.ended = False
        """The peer sent close_notify: its stream is over."""

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is complete. Raises TlsFailed."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLError, ssl.CertificateError, ValueError) as exc:
            raise TlsFailed(_said(exc)) from exc
        self.established = True
        return True

    def feed(self, data: bytes) -> bytes:
        """Bytes of the wire in; returns the plain text they carry. Raises TlsFailed."""
        if len(data) <= _SLICE:
            self._incoming.write(data)
            return self._plain() if self.established or self.handshake() else b""
        view = memoryview(data)
        parts = []
        for start in range(0, len(data), _SLICE):
            self._incoming.write(view[start : start + _SLICE])
            if self.established or self.handshake():
                parts.append(self._plain())
        return b"".join(parts)

    def _plain(self) -> bytes:
        filled = 0
        parts: list[bytes] = []
        try:
            while True:
                count = self._object.read(len(_shared) - filled, _view[filled:])
                if not count:
                    self.ended = True
                    break
                filled += int(count)
                if filled == len(_shared):
                    parts.append(bytes(_shared))
                    filled = 0
        except ssl.SSLWantReadError:
            pass  # the usual end: every whole record was read
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as exc:
            raise TlsFailed(_said(exc)) from exc
        parts.append(bytes(_view[:filled]))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seal(self, data: bytes) -> bytes:
        """Plain text in; returns the bytes of the wire. Raises TlsFailed."""
        try:
            if len(data) <= _SLICE:
                self._object.write(data)
                return self._outgoing.read()
            view = memoryview(data)
            parts = []
            for start in range(0, len(data), _SLICE):
                self._object.write(view[start : start + _SLICE])
                parts.append(self._outgoing.read())
            return b"".join(parts)
        except ssl.SSLError as exc:
            raise TlsFailed(_said(exc)) from exc

    def pending(self) -> bytes:
        """Bytes that TLS itself wants to send: handshake, tickets, alerts."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def farewell(self) -> bytes:
        """close_notify, where the handshake went far enough for one."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            return self.pending()  # the peer has not answered yet, and need not
        return self.pending()

    @property
    def alpn(self) -> str | None:
        """What ALPN (RFC 7301) agreed on."""
        return self._object.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> bytes | None:
        """DER of the peer's certificate."""
        return self._object.getpeercert(binary_form=True)


def _said(exc: Exception) -> str:
    verify = getattr(exc, "verify_message", "")
    reason = getattr(exc, "reason", None)
    return str(verify or reason or exc)


def server_context(
    certificate: str | Path, key: str | Path | None = None, alpn: tuple[str, ...] = ("postgresql",)
) -> ssl.SSLContext:
    """TLS as server, 1.2 and newer. Raises OSError or ssl.SSLError when files do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(list(alpn))
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """TLS to a target as its settings ask: `verify-full` checks chain and name, `require` neither.

    Raises OSError or ssl.SSLError when the files that `tls` names do not fit.
    """
    if tls.mode not in ("require", "verify-full"):
        raise ValueError(f"tls mode {tls.mode!r} does not speak TLS")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if tls.mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca_path:
        context.load_verify_locations(cafile=tls.ca_path)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if tls.cert_path:
        context.load_cert_chain(tls.cert_path, tls.key_path)
    return context


def _harden(context: ssl.SSLContext) -> None:
    """TLS 1.2 at least, and no renegotiation: it costs the peer little, and us a handshake."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION


def channel_binding(certificate: bytes | None) -> bytes | None:
    """tls-server-end-point (RFC 5929, 4.1) of a DER certificate; None where it is not defined."""
    if not certificate:
        return None
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    if algorithm is None:
        return None  # Ed25519 and its like have no hash of their own
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(certificate)
    return digest.finalize()
