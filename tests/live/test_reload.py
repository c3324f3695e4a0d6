# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGHUP as operations.md tells it: what is read anew, and what waits for the next start."""

from __future__ import annotations

import hashlib
import shutil
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.certificates import self_made
from gateway.record.recipients import make_recipient
from tests.bench.stage import free_port
from tests.live.test_serve import Served, _until, serving, written

pytestmark = pytest.mark.live

SSL_REQUEST = struct.pack("!II", 8, 80877103)


@pytest.fixture
def served(shop: PostgresServer, tmp_path: Path) -> Iterator[Served]:
    """Served with a certificate from files: the API is asked by DATA/ca.pem, so by its CA."""
    ports = written(tmp_path, shop)
    with serving(tmp_path, ports) as running:
        yield running


def reloaded(served: Served) -> None:
    before = len([one for one in served.log() if one["message"] == "reloaded"])
    served.child.send_signal(signal.SIGHUP)
    _until(lambda: len([o for o in served.log() if o["message"] == "reloaded"]) > before)


def connects(served: Served, token: str, **options: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(served.dsn(token, user="postgres", **options), autocommit=True)


def test_a_new_target_and_its_own_listener_are_there_at_once(
    served: Served, shop: PostgresServer
) -> None:
    port, token = free_port(), served.token("data")
    with (served.folder / "objects.yaml").open("a") as file:
        file.write(
            f"---\ntarget: more\nprotocol: postgresql\naddress: localhost:{shop.port}\n"
            f"databases: [shop]\ncredentials: [app]\nlisten: 127.0.0.1:{port}\n"
            f"tls: {{mode: verify-full, ca_path: {shop.ca_path}}}\n"
        )
    policy = served.folder / "policies" / "shop.yaml"
    policy.write_text(policy.read_text().replace("[orders]", "[orders, more]"))
    with connects(served, token) as open_before:
        reloaded(served)
        own = {"dbname": "shop", "port": str(port)}
        with connects(served, token, **own) as link:
            assert link.execute("select count(*) from customers").fetchone() == (2,)
        assert open_before.execute("select 1").fetchone() == (1,)


def test_a_secret_is_read_anew_and_open_sessions_keep_their_link(
    served: Served, shop: PostgresServer
) -> None:
    token = served.token("data")
    with connects(served, token) as link:
        (served.folder / "secret").write_text("no longer right")
        reloaded(served)
        with pytest.raises(psycopg.OperationalError):
            connects(served, token)
        assert link.execute("select 1").fetchone() == (1,)
        (served.folder / "secret").write_text(shop.password)
        reloaded(served)
        connects(served, token).close()


def test_recipients_wait_for_the_next_start_and_the_log_says_so(served: Served) -> None:
    make_recipient(served.folder / "second")
    with (served.folder / "objects.yaml").open("a") as file:
        file.write("---\nrecipient: second\nkey: {from: 'file:second/recipient.pub'}\n")
    reloaded(served)
    warned = [one for one in served.log() if "recipients changed" in one["message"]]
    assert [one["level"] for one in warned] == ["warning"]


def shown(port: int, *, postgresql: bool) -> str:
    """The SHA-256 of the certificate that a listener shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        if postgresql:
            plain.sendall(SSL_REQUEST)
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain) as link:
            der = link.getpeercert(binary_form=True)
    assert der is not None
    return hashlib.sha256(der).hexdigest()


def test_the_certificate_is_read_anew_for_databases_and_not_for_the_api(served: Served) -> None:
    before = shown(served.port, postgresql=True)
    assert shown(served.api, postgresql=False) == before
    other = self_made(served.folder / "other")
    shutil.copy(other.key_path, served.data / "tls" / "server.key")
    shutil.copy(other.cert_path, served.data / "tls" / "server.pem")
    reloaded(served)
    assert shown(served.port, postgresql=True) != before
    assert shown(served.api, postgresql=False) == before
