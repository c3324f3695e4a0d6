# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation at a real server: each mode, what fails, and where no secret is to be found."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.credentials.master import KeyRing, read_key_file
from gateway.credentials.vault import Vault
from gateway.record.reader import Evidence
from gateway.store.secrets import StoredSecrets
from gateway.store.sqlite import SqliteDatabase
from tests.live.gateway_process import command
from tests.live.rotating_world import accounts, asked, credentials, rotating, seed, shown
from tests.live.test_serve import Served, serving

pytestmark = pytest.mark.live


@contextmanager
def rotated(
    folder: Path, server: PostgresServer, plan: str
) -> Iterator[tuple[Served, dict[str, str]]]:
    made = accounts(server)
    with serving(folder, rotating(folder, server, plan)) as served:
        seed(served, made, plan)
        yield served, made


def who(served: Served, token: str) -> str:
    with psycopg.connect(served.dsn(token, user="keeper"), autocommit=True) as link:
        row = link.execute("select current_user").fetchone()
    assert row is not None
    return str(row[0])


def lets_in(server: PostgresServer, user: str, password: str) -> bool:
    """Past the gateway."""
    where = f"host=127.0.0.1 port={server.port} dbname=shop user={user}"
    try:
        psycopg.connect(where, password=password, connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


def latest(served: Served) -> dict[str, object]:
    return dict(served_rotations(served)[0])


def served_rotations(served: Served) -> list[dict[str, object]]:
    return list(asked(served.data, "GET", "credentials/app/rotations"))


def ended(served: Served) -> dict[str, object]:
    end = time.monotonic() + 30
    while not (found := latest(served))["outcome"]:
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("plan", ["single", "admin"])
def test_one_user(plan: str, shop: PostgresServer, tmp_path: Path) -> None:
    with rotated(tmp_path, shop, plan) as (served, made):
        token = served.token("data")
        with psycopg.connect(served.dsn(token, user="keeper"), autocommit=True) as open_before:
            answer = shown(served.data, "rotate", "app")
            assert answer["changed"] and answer["rotation"]["step"] == "switched"
            assert who(served, token) == "keeper"
            assert open_before.execute("select 1").fetchone() == (1,)
        assert not lets_in(shop, "keeper", made["keeper"])
        refused = credentials(served.data, "rotate", "app")
        if latest(served)["outcome"] is None:
            assert refused.returncode == 1 and "--force" in refused.stderr
        assert ended(served)["outcome"] == "done"
        assert [one["state"] for one in shown(served.data, "list", "app")][:2] == [
            "revoked",
            "current",
        ]


@pytest.mark.parametrize("plan", ["two", "two-admin"])
def test_two_users_take_turns(plan: str, shop: PostgresServer, tmp_path: Path) -> None:
    with rotated(tmp_path, shop, plan) as (served, made):
        token = served.token("data")
        if plan == "two":
            done = credentials(served.data, "rotate", "app")
            assert done.returncode == 1
            assert "trailgate credentials set app --account app_b" in done.stderr
            shown(served.data, "set", "app", "--account", "app_b", stdin=made["app_b"])
            assert who(served, token) == "app_a"
        for account, other in (("app_b", "app_a"), ("app_a", "app_b"), ("app_b", "app_a")):
            answer = shown(served.data, "rotate", "app", "--force")
            assert answer["rotation"]["account"] == account
            assert who(served, token) == account
            assert not lets_in(shop, account, made[account])
            if plan == "two-admin":
                assert ended(served)["outcome"] == "done"
                stored = shop.psql(
                    f"SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = '{other}'"
                )
                assert stored == "t"


def test_an_age_spares_what_is_young(shop: PostgresServer, tmp_path: Path) -> None:
    with rotated(tmp_path, shop, "single") as (served, made):
        answer = shown(served.data, "rotate", "app", "--max-age", "1d")
        assert answer == {"changed": False, "rotation": None}
        assert lets_in(shop, "keeper", made["keeper"])
        assert shown(served.data, "rotate", "app", "--max-age", "1d", "--force")["changed"]
        done = credentials(served.data, "rotate", "app", "--max-age", "1d")
        assert (done.returncode, "young enough" in done.stdout) == (0, True)


def test_what_is_refused_leaves_the_secret_in_force(shop: PostgresServer, tmp_path: Path) -> None:
    with rotated(tmp_path, shop, "two-admin") as (served, made):
        token = served.token("data")
        shop.psql("DROP ROLE app_b")
        done = credentials(served.data, "rotate", "app")
        assert done.returncode == 1, done.stdout
        assert 'role "app_b" does not exist' in done.stderr
        assert who(served, token) == "app_a" and lets_in(shop, "app_a", made["app_a"])
        assert latest(served)["outcome"] == "failed"
        metrics = served.get("/metrics").text
        assert 'trailgate_rotations_total{result="failed"} 1.0' in metrics
        errors = [one for one in served.log() if one.get("step") == "failed"]
        assert [one["level"] for one in errors] == ["error"]
        none = credentials(served.data, "rotate", "owner")
        assert none.returncode == 1 and "add rotation:" in none.stderr


def test_a_login_that_fails_is_taken_back(shop: PostgresServer, tmp_path: Path) -> None:
    with rotated(tmp_path, shop, "admin") as (served, made):
        token = served.token("data")
        shop.psql("ALTER ROLE keeper VALID UNTIL '2001-01-01'")
        done = credentials(served.data, "rotate", "app", "--wait", "1s")
        assert done.returncode == 2 and "goes on by itself" in done.stderr
        found = ended(served)
        assert found["outcome"] == "failed" and "taken back" in str(found["detail"])
        shop.psql("ALTER ROLE keeper VALID UNTIL 'infinity'")
        assert lets_in(shop, "keeper", made["keeper"]) and who(served, token) == "keeper"


def test_a_target_that_is_away_is_waited_for(tmp_path: Path, shop: PostgresServer) -> None:
    with rotated(tmp_path, shop, "single") as (served, made):
        objects = served.folder / "objects.yaml"
        text = objects.read_text()
        objects.write_text(text.replace(f"localhost:{shop.port}", "localhost:9"))
        served.child.send_signal(signal.SIGHUP)
        until_reloaded(served, 1)
        done = credentials(served.data, "rotate", "app", "--wait", "1s")
        assert done.returncode == 2 and "Connection refused" in done.stderr
        objects.write_text(text)
        served.child.send_signal(signal.SIGHUP)
        until_reloaded(served, 2)
        assert ended(served)["outcome"] == "done"
        assert who(served, served.token("data")) == "keeper"
        assert not lets_in(shop, "keeper", made["keeper"])


def test_a_secret_that_is_dropped_meanwhile_ends_its_rotation(
    tmp_path: Path, shop: PostgresServer
) -> None:
    with rotated(tmp_path, shop, "admin") as (served, made):
        shop.psql("ALTER ROLE keeper VALID UNTIL '2001-01-01'")
        assert credentials(served.data, "rotate", "app", "--wait", "1s").returncode == 2
        shown(served.data, "drop", "app")
        found = ended(served)
        assert found["outcome"] == "failed" and "dropped" in str(found["detail"])
        shop.psql("ALTER ROLE keeper VALID UNTIL 'infinity'")
        assert shown(served.data, "rotate", "app")["changed"]
        assert who(served, served.token("data")) == "keeper"


def until_reloaded(served: Served, times: int) -> None:
    end = time.monotonic() + 30
    while len([one for one in served.log() if one["message"] == "reloaded"]) < times:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_on_its_day_it_is_rotated_by_itself(shop: PostgresServer, tmp_path: Path) -> None:
    made = accounts(shop)
    ports = rotating(tmp_path, shop, "single")
    objects = tmp_path / "objects.yaml"
    text = objects.read_text().replace("grace: 1s", "grace: 1s, every: 60s")
    (tmp_path / "first").write_text(made["keeper"])
    (tmp_path / "first").chmod(0o600)
    objects.write_text(text.replace("{from: vault}", "{from: 'file:first'}"))
    with serving(tmp_path, ports) as served:
        end = time.monotonic() + 90
        while not served_rotations(served):
            assert time.monotonic() < end
            time.sleep(1)
        found = ended(served)
        assert (found["outcome"], found["cause"], found["version"]) == ("done", "schedule", 2)
        assert who(served, served.token("data")) == "keeper"


def kept_secrets(data: Path) -> set[bytes]:
    """What the vault holds, opened with its master key, as only the gateway can."""

    async def opened() -> set[bytes]:
        database = await SqliteDatabase.open(data / "state.sqlite")
        try:
            vault = Vault(StoredSecrets(database), KeyRing(read_key_file(data / "master.key")))
            live = [one for one in await vault.versions() if one.sealed]
            return {(await vault.open(one)).encode() for one in live}
        finally:
            await database.close()

    return asyncio.run(opened())


def test_every_step_is_recorded_and_no_secret_is_anywhere(
    shop: PostgresServer, tmp_path: Path
) -> None:
    with rotated(tmp_path, shop, "single") as (served, made):
        known = {made["keeper"].encode()}
        for _ in range(3):
            shown(served.data, "rotate", "app", "--force")
            who(served, served.token("data"))
            known |= kept_secrets(served.data)
        assert len(known) == 4
        for arguments in [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]:
            assert not [one for one in known if one in arguments]
        ended(served)
        served.child.send_signal(signal.SIGTERM)
        assert served.child.wait(30) == 0
        steps = [one["step"] for one in served.log() if one["message"] == "rotation"]
        assert steps[:5] == ["made", "changing", "changed", "proved", "switched"]
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        assert not [one for one in known if content.find(one) >= 0], path
    lines = shop.log.read_bytes().splitlines()
    changed = [line for line in lines if b'ALTER ROLE "keeper" PASSWORD' in line]
    assert len(changed) >= 3 and all(b"'SCRAM-SHA-256$4096:" in line for line in changed)
    made_here = known - {made["keeper"].encode()}
    assert not [line for line in lines if any(one in line for one in made_here)]
    assert recorded_steps(tmp_path / "data")[:5] == [
        ("made", "uid"), ("changing", "uid"), ("changed", "uid"), ("proved", "uid"),
        ("switched", "uid"),
    ]  # fmt: skip
    assert command("verify", str(tmp_path / "data")).returncode == 0


def recorded_steps(data: Path) -> list[tuple[str, str]]:
    """Of rotations, in the node's own record."""
    evidence = Evidence(data, None)
    return [
        (frame.meta["step"], frame.meta["by"].split(" ")[0])
        for node in evidence.nodes()
        for frame in evidence.frames(node)
        if frame.meta.get("event") == "rotation"
    ]
