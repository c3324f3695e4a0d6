# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate keys erase` as the operator runs it: a hold, a reload, a restart, a verdict."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.gateway_process import command, command_json
from tests.live.test_reload import reloaded
from tests.live.test_serve import Served, _until, serving, written

pytestmark = pytest.mark.live
SECRET = "to-be-forgotten-by-everybody"
HOLD = "---\nlegal_hold: case-17\nsessions: {targets: [orders], from: 2020-01-01}\n"


def one_session(served: Served) -> str:
    with psycopg.connect(
        served.dsn(served.token("data"), user="postgres"), autocommit=True
    ) as link:
        link.execute(f"select '{SECRET}'")
    return str(command_json("sessions", "list", "--data", str(served.data))[-1]["id"])


def erase(served: Served, session: str) -> tuple[int, str]:
    done = command("keys", "erase", session, "--data", str(served.data), "-o", "json")
    return done.returncode, done.stdout + done.stderr


def replayed(served: Served, session: str) -> str:
    identity = str(served.folder / "auditor" / "identity")
    data = str(served.data)
    done = command("audit", "replay", session, "--data", data, "--identity", identity)
    return done.stdout + done.stderr


def test_a_hold_forbids_it_and_without_one_nobody_can_read_the_session(
    shop: PostgresServer, tmp_path: Path
) -> None:
    ports = written(tmp_path, shop)
    objects = tmp_path / "objects.yaml"
    free = objects.read_text()
    objects.write_text(free + HOLD)
    with serving(tmp_path, ports) as served:
        session = one_session(served)
        assert SECRET in replayed(served, session)
        code, said = erase(served, session)
        assert code == 1 and "case-17" in said
        code, said = erase(served, "a" * 26)
        assert code == 1 and "record" in said
        assert erase(served, session[:10])[0] == 1
        objects.write_text(free)
        reloaded(served)
        code, said = erase(served, session)
        assert code == 0 and json.loads(said)["state"] == "pending"
        served.child.send_signal(signal.SIGTERM)
        assert served.child.wait(30) == 0
    with serving(tmp_path, ports) as served:
        _until(lambda: not (served.data / "keys" / session).exists())
        _until(lambda: any(one["message"] == "erased" for one in served.log()))
        assert SECRET not in replayed(served, session)
        code, said = erase(served, session)
        assert code == 1 and "no wrapped key" in said
        served.child.send_signal(signal.SIGTERM)
        assert served.child.wait(30) == 0
    identity = str(tmp_path / "auditor" / "identity")
    document = command_json("verify", str(tmp_path / "data"), "--identity", identity)
    assert document["ok"] and document["erased"] == [session]
