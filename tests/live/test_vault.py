# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in the vault, at a real server: set, listed, signed in with, and nowhere to be found."""

from __future__ import annotations

import json
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.credentials.master import make_key_file
from tests.live.gateway_process import command
from tests.live.test_serve import Served, serving, written

pytestmark = pytest.mark.live


def of_vault(folder: Path, server: PostgresServer) -> tuple[int, int]:
    """As `written`, with a user of its own whose secret only the vault has."""
    ports = written(folder, server)
    objects = folder / "objects.yaml"
    text = objects.read_text().replace("user: postgres", "user: keeper")
    objects.write_text(text.replace("{from: 'file:secret'}", "{from: vault}"))
    with (folder / "trailgate.yaml").open("a") as settings:
        settings.write('master_key: {key: "file:master.key"}\n')
    (folder / "secret").unlink()
    return ports


def role(server: PostgresServer, secret: str) -> None:
    server.psql("DROP ROLE IF EXISTS keeper")
    server.psql(f"CREATE ROLE keeper LOGIN PASSWORD '{secret}' IN ROLE pg_read_all_data")


@pytest.fixture
def secret(shop: PostgresServer) -> str:
    chosen = "seeded-" + secrets.token_hex(12)
    role(shop, chosen)
    return chosen


@pytest.fixture
def served(shop: PostgresServer, secret: str, tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, of_vault(tmp_path, shop)) as running:
        yield running


def credentials(served: Served, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "credentials", *words, "--data", str(served.data)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def shown(served: Served, *words: str, stdin: str = "") -> Any:
    done = credentials(served, *words, "-o", "json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def connected(served: Served, token: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(served.dsn(token, user="keeper"), autocommit=True)


def test_a_secret_that_was_set_is_signed_in_with_and_never_shown(
    served: Served, secret: str, shop: PostgresServer
) -> None:
    token = served.token("data")
    with pytest.raises(psycopg.OperationalError, match="could not sign in"):
        connected(served, token)
    assert shown(served, "list")[0]["source"] is None
    assert shown(served, "set", "app", stdin=f"{secret}\n") == {
        "name": "app",
        "version": 1,
        "state": "current",
    }
    with connected(served, token) as link:
        assert link.execute("select current_user").fetchone() == ("keeper",)
        # The one before goes on for a while, whichever of the two the target has.
        (served.folder / "next").write_text("not at the target yet")
        assert shown(served, "set", "app", "--file", str(served.folder / "next"))["version"] == 2
        connected(served, token).close()
        shop.psql("ALTER ROLE keeper PASSWORD 'not at the target yet'")
        connected(served, token).close()
        assert link.execute("select 1").fetchone() == (1,)
    (one,) = shown(served, "list")
    assert (one["source"], one["version"], one["account"]) == ("vault", 2, "keeper")
    states = [each["state"] for each in shown(served, "list", "app")]
    assert states == ["retired", "current"]
    for words in (("list",), ("list", "app"), ("list", "app", "-o", "json")):
        done = credentials(served, *words)
        assert secret not in done.stdout + done.stderr


def test_what_is_dropped_is_gone(served: Served, secret: str) -> None:
    shown(served, "set", "app", stdin=secret)
    connected(served, served.token("data")).close()
    shown(served, "drop", "app")
    assert [one["state"] for one in shown(served, "list", "app")] == ["revoked"]
    with pytest.raises(psycopg.OperationalError, match="could not sign in"):
        connected(served, served.token("data"))


def test_bad_input_says_what_to_do(served: Served) -> None:
    for words, stdin, said in (
        (("set", "none"), "x", "no credential has this name"),
        (("set", "app"), "", "the secret is empty"),
        (("set", "app"), "x" * 70_000, "over 65536 bytes"),
        (("set", "app", "--file", "/nonexistent"), "", "cannot be read"),
        (("drop", "none"), "", "no credential has this name"),
        (("list", "none"), "", "no credential has this name"),
    ):
        done = credentials(served, *words, stdin=stdin)
        assert done.returncode in (1, 2) and said in done.stderr, done.stderr
    answer = httpx.put(
        f"https://127.0.0.1:{served.api}/api/v1/credentials/app/secret",
        json={"secret": "x"},
        headers={"authorization": f"Bearer {served.token('data')}"},
        verify=ssl.create_default_context(cafile=served.ca),
        trust_env=False,
    )
    assert answer.status_code == 403


def test_a_new_master_key_takes_over_and_the_old_one_is_not_needed(
    shop: PostgresServer, secret: str, tmp_path: Path
) -> None:
    ports = of_vault(tmp_path, shop)
    settings = tmp_path / "trailgate.yaml"
    with serving(tmp_path, ports) as served:
        shown(served, "set", "app", stdin=secret)
        before = shown(served, "list", "app")[0]["master_key"]
    make_key_file(tmp_path / "new.key")
    text = settings.read_text()
    both = 'key: "file:new.key", previous: ["file:master.key"]'
    settings.write_text(text.replace('key: "file:master.key"', both))
    with serving(tmp_path, ports) as served:
        connected(served, served.token("data")).close()
        first = shown(served, "rewrap")
        assert (first["rewrapped"], first["failed"]) == (1, [])
        assert shown(served, "rewrap")["kept"] == 1
        assert shown(served, "rewrap", "--all")["rewrapped"] == 1
        assert shown(served, "list", "app")[0]["master_key"] == first["master_key"] != before
    (tmp_path / "master.key").unlink()
    settings.write_text(text.replace("master.key", "new.key"))
    with serving(tmp_path, ports) as served:
        connected(served, served.token("data")).close()


def test_a_gateway_without_its_master_key_does_not_start(
    shop: PostgresServer, secret: str, tmp_path: Path
) -> None:
    ports = of_vault(tmp_path, shop)
    with serving(tmp_path, ports) as served:
        shown(served, "set", "app", stdin=secret)
    (tmp_path / "master.key").unlink()
    done = command("serve", "--config", str(tmp_path / "trailgate.yaml"))
    assert done.returncode == 2 and "restore it from its backup" in done.stderr
    make_key_file(tmp_path / "master.key")
    done = command("serve", "--config", str(tmp_path / "trailgate.yaml"))
    assert done.returncode == 2 and "master_key.previous" in done.stderr
    doctor = command("doctor", "--config", str(tmp_path / "trailgate.yaml"), "-o", "json")
    found = {one["check"]: one for one in json.loads(doctor.stdout)}
    assert "lies on the disk of the store" in found["master_key"]["detail"]


def test_a_seeded_secret_is_nowhere_on_disk(
    served: Served, secret: str, shop: PostgresServer
) -> None:
    shown(served, "set", "app", stdin=secret)
    with connected(served, served.token("data")) as link:
        link.execute("select * from customers")
        arguments = b"".join(
            path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
        )
        assert arguments.find(secret.encode()) == -1
    served.child.send_signal(signal.SIGTERM)
    assert served.child.wait(30) == 0
    found = [path for path in served.folder.rglob("*") if path.is_file()]
    assert any(path.name == "state.sqlite" for path in found)
    for path in found:
        assert path.read_bytes().find(secret.encode()) == -1, path
