# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's own login against a real PostgreSQL: every method, TLS, bindings, refusals."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.model import Credential, Grant, Identity, Session, Target, Tls
from gateway.protocols import ClientTls, Derive, Failed, Ready, ToTarget
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.signin import PostgresSignin, cancel_request

pytestmark = pytest.mark.live

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=str)
if BINARIES is None:
    pytest.skip("no PostgreSQL server is installed", allow_module_level=True)

HBA = """
hostssl   all certuser  127.0.0.1/32 cert
host      all scram     127.0.0.1/32 scram-sha-256
host      all odd       127.0.0.1/32 scram-sha-256
host      all full      127.0.0.1/32 scram-sha-256
host      all md5user   127.0.0.1/32 md5
host      all plainuser 127.0.0.1/32 password
host      all trusty    127.0.0.1/32 trust
local     all all       trust
"""
ODD = "pa\u00aass\u00adw\u2168rd \u00fc"


@dataclass(frozen=True)
class Server:
    folder: Path
    port: int


def certificate(
    name: str, issuer: tuple[x509.Certificate, Any] | None
) -> tuple[x509.Certificate, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def write(folder: Path, name: str, made: tuple[x509.Certificate, Any]) -> None:
    certificate_, key = made
    (folder / f"{name}.crt").write_bytes(certificate_.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / f"{name}.key").chmod(0o600)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(*command: str, stdin: str | None = None) -> None:
    """As the user postgres where we are root: the server refuses to run as root."""
    drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    prefix = drop if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, *command], input=stdin, capture_output=True, text=True, cwd="/", timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="tgsignin"))
    authority = certificate("test authority", None)
    write(folder, "ca", authority)
    write(folder, "server", certificate("127.0.0.1", authority))
    write(folder, "client", certificate("certuser", authority))
    data = folder / "data"
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "postgres", "postgres")
    port = free_port()
    run(str(BINARIES / "initdb"), "-D", str(data), "-A", "trust", "-U", "root", "-N", "--locale=C")
    (data / "pg_hba.conf").write_text(HBA)
    (data / "postgresql.auto.conf").write_text(
        f"listen_addresses='127.0.0.1'\nport={port}\nunix_socket_directories='{folder}'\n"
        f"ssl=on\nssl_ca_file='{folder}/ca.crt'\nssl_cert_file='{folder}/server.crt'\n"
        f"ssl_key_file='{folder}/server.key'\nfsync=off\n"
    )
    control = str(BINARIES / "pg_ctl")
    run(control, "-D", str(data), "-w", "-l", str(folder / "log"), "start")
    try:
        prepare(folder, port)
        yield Server(folder, port)
    finally:
        run(control, "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder)


def prepare(folder: Path, port: int) -> None:
    statements = f"""
        CREATE USER scram PASSWORD 'right'; CREATE USER odd PASSWORD '{ODD}';
        CREATE USER full PASSWORD 'right' CONNECTION LIMIT 0;
        CREATE USER plainuser PASSWORD 'right'; CREATE USER certuser; CREATE USER trusty;
        SET password_encryption = md5; CREATE USER md5user PASSWORD 'right';
    """
    psql = str(BINARIES / "psql")
    connection = f"host={folder} port={port} user=root dbname=postgres client_encoding=UTF8"
    run(psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", connection, stdin=statements)


class Pump:
    """A tiny blocking relay: drives one login over a real socket until it ends."""

    def __init__(self, server: Server, login: PostgresSignin, tls: Tls) -> None:
        self.link: socket.socket | ssl.SSLSocket = socket.create_connection(
            ("127.0.0.1", server.port), timeout=20
        )
        self.login, self.tls = login, tls
        self.derived: list[Derive] = []

    def run(self) -> Ready | Failed:
        effects = self.login.begin()
        while True:
            for effect in effects:
                if isinstance(effect, Ready | Failed):
                    return effect
            more = [result for effect in effects for result in self.perform(effect)]
            effects = more or self.login.receive(self.receive())

    def receive(self) -> bytes:
        data = self.link.recv(65536)
        assert data, "the server hung up without a word"
        return data

    def perform(self, effect: Any) -> list[Any]:
        if isinstance(effect, ToTarget):
            self.link.sendall(effect.data)
            return []
        if isinstance(effect, Derive):
            self.derived.append(effect)
            return self.login.derived(
                hashlib.pbkdf2_hmac("sha256", effect.password, effect.salt, effect.iterations)
            )
        assert isinstance(effect, ClientTls)
        return self.login.tls_started(self.begin_tls())

    def begin_tls(self) -> bytes:
        context = ssl.create_default_context(cafile=self.tls.ca_path)
        if self.tls.cert_path:
            context.load_cert_chain(self.tls.cert_path, self.tls.key_path)
        self.link = context.wrap_socket(self.link, server_hostname="127.0.0.1")
        der = self.link.getpeercert(binary_form=True)
        assert der is not None
        return hashlib.sha256(der).digest()

    def ask(self, text: str) -> bytes:
        self.link.sendall(wire.message(wire.QUERY, wire.cstring(text)))
        answer = b""
        while not answer.endswith(wire.ready_for_query("I")):
            answer += self.receive()
        return answer


def signed_in(
    server: Server,
    user: str,
    login: str,
    secret: str = "right",
    *,
    encrypted: bool = False,
    database: str = "postgres",
    settings: tuple[tuple[str, str], ...] = (),
) -> tuple[Ready | Failed, Pump]:
    tls = Tls(mode="disable")
    if encrypted:
        names = ("ca.crt", "client.crt", "client.key")
        ca, cert, key = (str(server.folder / name) for name in names)
        tls = Tls("verify-full", ca, *((cert, key) if login == "certificate" else (None, None)))
    target = Target("t", "postgresql", "127.0.0.1", server.port, tls=tls)
    session = Session(
        "a" * 26,
        0,
        Grant("g", Identity("i", "alice")),
        target,
        user,
        database,
        "127.0.0.1:1",
        {"application_name": "psql"},
    )
    credential = Credential("cred", user, login, secret)
    pump = Pump(server, PostgresSignin(target, credential, session, settings, os.urandom(18)), tls)
    return pump.run(), pump


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    ("user", "login", "secret"),
    [
        ("scram", "scram-sha-256", "right"),
        ("odd", "scram-sha-256", ODD),
        ("md5user", "md5", "right"),
        ("plainuser", "password", "right"),
        ("trusty", "trust", ""),
    ],
)
def test_every_method_signs_in_and_the_session_works(
    server: Server, user: str, login: str, secret: str, encrypted: bool
) -> None:
    ready, pump = signed_in(
        server, user, login, secret, encrypted=encrypted, settings=(("timezone", "Asia/Tokyo"),)
    )
    assert isinstance(ready, Ready), ready
    assert dict(ready.parameters)["TimeZone"] == "Asia/Tokyo"
    assert len(ready.key) == 4
    answer = pump.ask(
        "select pg_backend_pid() || ' ' || current_user || ' ' || (select ssl from pg_stat_ssl"
        " where pid = pg_backend_pid()) || ' ' || current_setting('application_name')"
    )
    expected = f"{ready.process} {user} {str(encrypted).lower()} {'a' * 26} psql"
    assert expected.encode() in answer
    pump.link.close()


def test_a_certificate_signs_in(server: Server) -> None:
    ready, pump = signed_in(server, "certuser", "certificate", "", encrypted=True)
    assert isinstance(ready, Ready), ready
    pump.link.close()


def test_channel_binding_is_used_over_tls(server: Server) -> None:
    sent: list[bytes] = []
    real = Pump.perform

    class Watched(Pump):
        def perform(self, effect: Any) -> list[Any]:
            sent.append(getattr(effect, "data", b""))
            return real(self, effect)

    tls = Tls("verify-full", str(server.folder / "ca.crt"))
    target = Target("t", "postgresql", "127.0.0.1", server.port, tls=tls)
    session = Session(
        "a" * 26, 0, Grant("g", Identity("i", "alice")), target, "scram", "postgres", ""
    )
    credential = Credential("cred", "scram", "scram-sha-256", "right")
    login = PostgresSignin(target, credential, session, (), os.urandom(18))
    assert isinstance(Watched(server, login, tls).run(), Ready)
    assert any(data[5:].startswith(b"SCRAM-SHA-256-PLUS\0") for data in sent)


def test_a_binding_to_another_certificate_is_refused_by_the_server(server: Server) -> None:
    class Relayed(Pump):
        def begin_tls(self) -> bytes:
            super().begin_tls()
            return bytes(32)

    tls = Tls("verify-full", str(server.folder / "ca.crt"))
    target = Target("t", "postgresql", "127.0.0.1", server.port, tls=tls)
    session = Session(
        "a" * 26, 0, Grant("g", Identity("i", "alice")), target, "scram", "postgres", ""
    )
    credential = Credential("cred", "scram", "scram-sha-256", "right")
    login = PostgresSignin(target, credential, session, (), os.urandom(18))
    assert isinstance(Relayed(server, login, tls).run(), Failed)


def test_a_cached_derivation_signs_in_again(server: Server) -> None:
    first, pump = signed_in(server, "scram", "scram-sha-256")
    again, other = signed_in(server, "scram", "scram-sha-256")
    assert isinstance(first, Ready) and isinstance(again, Ready)
    assert pump.derived == other.derived != []
    pump.link.close()
    other.link.close()


@pytest.mark.parametrize(
    ("user", "login"), [("scram", "scram-sha-256"), ("md5user", "md5"), ("plainuser", "password")]
)
def test_a_wrong_secret_tells_the_client_nothing_of_the_credential(
    server: Server, user: str, login: str
) -> None:
    told, _ = signed_in(server, user, login, "wrong-secret")
    assert isinstance(told, Failed)
    assert told.relayed == b""
    assert "password authentication failed" in told.cause
    assert user not in told.refusal.reason
    assert "wrong-secret" not in told.cause


@pytest.mark.parametrize(
    ("user", "login"),
    [("md5user", "scram-sha-256"), ("plainuser", "md5"), ("trusty", "scram-sha-256")],
)
def test_a_server_with_another_method_is_refused(server: Server, user: str, login: str) -> None:
    told, _ = signed_in(server, user, login)
    assert isinstance(told, Failed)
    assert "asks for" in told.cause


@pytest.mark.parametrize(
    ("user", "database", "settings", "state"),
    [
        ("scram", "nowhere", (), "3D000"),
        ("full", "postgres", (), "53300"),
        ("scram", "postgres", (("work_mem", "invalid"),), "22023"),
    ],
)
def test_the_servers_words_about_the_request_reach_the_client(
    server: Server, user: str, database: str, settings: tuple[tuple[str, str], ...], state: str
) -> None:
    told, _ = signed_in(server, user, "scram-sha-256", database=database, settings=settings)
    assert isinstance(told, Failed)
    fields = wire.read_fields(told.relayed, 5, len(told.relayed))
    assert fields["C"] == state


def test_the_cancel_request_stops_what_runs(server: Server) -> None:
    ready, pump = signed_in(server, "scram", "scram-sha-256")
    assert isinstance(ready, Ready)
    pump.link.sendall(wire.message(wire.QUERY, b"select pg_sleep(60)\0"))
    answer = b""
    pump.link.settimeout(0.2)
    for _ in range(50):
        # Sent again until it lands: the query may not have begun when the first one comes.
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.sendall(cancel_request(ready))
            other.recv(1)
        try:
            answer = pump.receive()
            break
        except TimeoutError:
            continue
    assert b"57014" in answer
    pump.link.close()
