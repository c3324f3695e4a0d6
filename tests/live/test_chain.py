# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains of agents on the wire: attributed in the record, narrowed, and revocable at any hop."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.gateway_process import Gateway, command, command_json, start

pytestmark = pytest.mark.live

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"


def child(gateway: Gateway, token: str, name: str, **more: str) -> dict[str, Any]:
    """The answer to an exchange (RFC 8693)."""
    form = {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "agent_name": name,
        **more,
    }
    answer = httpx.post(f"{gateway.ready['admin_url']}/oauth/token", data=form, trust_env=False)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_each_frame_of_a_three_hop_chain_resolves_to_its_origin(
    shop: PostgresServer, tmp_path: Path
) -> None:
    gateway = start(tmp_path / "data", shop, database="shop")
    token, names = gateway.token, ["planner", "worker", "tool"]
    for name in names:
        token = child(gateway, token, name)["access_token"]
    assert gateway.psql("select 'deep'", database="shop", token=token).stdout == "deep\n"
    assert gateway.stop() == 0
    (session,) = command_json("sessions", "list", "--data", str(gateway.data))
    assert session["chain"] == [session["origin"], *names]
    replay = command_json("audit", "replay", session["id"], "--data", str(gateway.data))
    assert replay["session"]["chain"] == session["chain"]
    assert any(one["request"]["text"] == "select 'deep'" for one in replay["operations"])


def test_revoking_the_middle_grant_ends_the_grandchilds_session(observed: Gateway) -> None:
    middle = child(observed, observed.token, "middle")
    grandchild = child(observed, middle["access_token"], "grandchild")
    url = f"{observed.ready['admin_url']}/api/v1/grants"
    with psycopg.connect(observed.dsn("shop", grandchild["access_token"])) as link:
        assert link.execute("select 1").fetchone() == (1,)
        bearer = {"authorization": f"Bearer {observed.token}"}
        began = time.monotonic()
        answer = httpx.delete(f"{url}/{middle['grant']}", headers=bearer, trust_env=False)
        assert answer.is_success, answer.text
        with pytest.raises(psycopg.Error):
            while time.monotonic() - began < 2:
                link.execute("select 1")
                time.sleep(0.02)
        assert time.monotonic() - began < 2
    refused = observed.psql("select 1", database="shop", token=grandchild["access_token"])
    assert "revoked" in refused.stderr
    # The origin itself goes on.
    assert observed.psql("select 1", database="shop").stdout == "1\n"


def test_a_running_query_of_a_revoked_grant_is_cancelled_at_the_target(
    observed: Gateway, shop: PostgresServer
) -> None:
    agent = child(observed, observed.token, "sleeper")
    link = psycopg.connect(observed.dsn("shop", agent["access_token"]), autocommit=True)
    link.pgconn.send_query(b"select pg_sleep(77)")
    asleep = (
        "select count(*) from pg_stat_activity "
        "where query = 'select pg_sleep(77)' and state = 'active'"
    )
    while shop.psql(asleep) != "1":
        time.sleep(0.02)
    bearer = {"authorization": f"Bearer {observed.token}"}
    url = f"{observed.ready['admin_url']}/api/v1/grants/{agent['grant']}"
    assert httpx.delete(url, headers=bearer, trust_env=False).is_success
    end = time.monotonic() + 5
    while shop.psql(asleep) != "0":
        assert time.monotonic() < end
        time.sleep(0.02)
    link.close()


def test_a_child_is_narrowed_to_what_its_parent_gave(guarded: Gateway) -> None:
    details = [{"type": "trailgate", "targets": ["shop"], "sql": {"kinds": ["select"]}}]
    reader = child(guarded, guarded.token, "reader", authorization_details=json.dumps(details))
    token = reader["access_token"]
    insert = "insert into notes (body) values ('narrowed')"
    assert guarded.psql(insert, database="shop").returncode == 0
    refused = guarded.psql(insert, "select 2", database="shop", token=token)
    assert "trailgate: denied" in refused.stderr and refused.stdout == "2\n"
    # Narrowing is inherited: a grandchild that names everything gets no more.
    wide = [{"type": "trailgate", "targets": ["*"]}]
    grandchild = child(guarded, token, "wider", authorization_details=json.dumps(wide))
    again = guarded.psql(insert, database="shop", token=grandchild["access_token"])
    assert "trailgate: denied" in again.stderr
    nothing = child(guarded, guarded.token, "none", authorization_details="[]")
    assert guarded.psql("select 1", database="shop", token=nothing["access_token"]).stdout == ""


def test_a_childs_grant_expires_in_the_middle_of_a_session(observed: Gateway) -> None:
    brief = child(observed, observed.token, "brief", expires_in="3")
    with (
        psycopg.connect(observed.dsn("shop", brief["access_token"]), autocommit=True) as link,
        pytest.raises(psycopg.Error),
    ):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            link.execute("select 1")
            time.sleep(0.05)
    assert (
        "expired" in observed.psql("select 1", database="shop", token=brief["access_token"]).stderr
    )


def test_details_that_would_allow_nothing_are_refused_at_once(observed: Gateway) -> None:
    for wrong, said in (
        ([{"type": "trailgate", "targets": "shop"}], "targets must be a list"),
        ([{"type": "other"}], "trailgate"),
        ([{"type": "trailgate", "sql": {"kindz": ["read"]}}], "kindz"),
        ([{"type": "trailgate"}, {"type": "trailgate", "sql": {"kinds": ["raed"]}}], "raed"),
    ):
        form = {
            "grant_type": EXCHANGE,
            "subject_token": observed.token,
            "subject_token_type": ACCESS_TOKEN,
            "agent_name": "narrow",
            "authorization_details": json.dumps(wrong),
        }
        answer = httpx.post(
            f"{observed.ready['admin_url']}/oauth/token", data=form, trust_env=False
        )
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_authorization_details"
        assert said in answer.json()["error_description"]


def nodes_of(tree: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The actors of `sessions tree`, by name."""
    found = {node["actor"]: node for node in tree}
    for node in tree:
        found |= nodes_of(node["children"])
    return found


def test_grants_are_verified_from_both_ends_also_after_a_kill(
    shop: PostgresServer, tmp_path: Path
) -> None:
    gateway = start(tmp_path / "data", shop, database="shop")
    lead = child(gateway, gateway.token, "lead")
    idle = child(gateway, lead["access_token"], "idle")
    busy = child(gateway, lead["access_token"], "busy", requested_token_type=JWT)
    for _ in range(3):
        gateway.psql("select 1", database="shop", token=busy["access_token"])
    gateway.kill()
    again = start(gateway.data, shop, database="shop")
    # Its origin's login is gone with `try`; the grants of before go on.
    assert again.psql("select 2", database="shop", token=busy["access_token"]).stdout == "2\n"
    later = child(again, busy["access_token"], "later")
    assert again.psql("select 3", database="shop", token=later["access_token"]).stdout == "3\n"
    assert again.stop() == 0
    verdict = command_json("verify", str(gateway.data), "--identity", str(identity(gateway)))
    assert (verdict["ok"], verdict["defects"]) == (True, [])
    # lead, idle, busy and two roots of before; busy again and later, and the root of the restart.
    assert verdict["checked"]["grants"] >= 6
    tree = nodes_of(command_json("sessions", "tree", "--data", str(gateway.data)))
    assert tree["idle"]["sessions"] == [] and tree["idle"]["grant"] == idle["grant"]
    assert len(tree["busy"]["sessions"]) == 4
    assert [one["actor"] for one in tree["busy"]["children"]] == ["later"]
    unused = command("audit", "replay", "--tree", idle["grant"], "--data", str(gateway.data))
    assert "opened no session" in unused.stderr


def identity(gateway: Gateway) -> Path:
    return gateway.data / "auditor" / "identity"


def renamed(data: Path, before: str, after: str) -> None:
    """Take a table of the store away, or give it back."""
    link = sqlite3.connect(data / "state.sqlite", timeout=30)
    with link:
        link.execute(f"ALTER TABLE {before} RENAME TO {after}")
    link.close()


def test_without_the_store_nobody_gets_in_and_what_goes_on_is_marked(
    shop: PostgresServer, tmp_path: Path
) -> None:
    gateway = start(tmp_path / "data", shop, database="shop")
    agent = child(gateway, gateway.token, "agent")
    form = {"grant_type": EXCHANGE, "subject_token": agent["access_token"], "agent_name": "x"}
    form["subject_token_type"] = ACCESS_TOKEN
    with psycopg.connect(gateway.dsn("shop", agent["access_token"]), autocommit=True) as link:
        link.execute("select 'before'")
        renamed(gateway.data, "grants", "away")
        deadline = time.monotonic() + 20
        while "sessions go on without the store" not in gateway.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        link.execute("select 'meanwhile'")  # within the grace
        time.sleep(3)  # for the log to fill, if it did
        assert gateway.psql("select 1", database="shop").returncode != 0
        url = f"{gateway.ready['admin_url']}/oauth/token"
        answer = httpx.post(url, data=form, trust_env=False)
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
        renamed(gateway.data, "away", "grants")
        while "the store answers again" not in gateway.log.read_text():
            assert time.monotonic() < deadline + 20
            time.sleep(0.1)
        link.execute("select 'after'")
        assert gateway.psql("select 1", database="shop").stdout == "1\n"
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.log.read_text()
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line[:1] == "{"]
    told = [one for one in lines if "the store" in one["message"] and "level" in one]
    watch = [one for one in told if one["logger"] == "gateway.identity.grants"]
    assert [one["message"].partition(":")[0] for one in watch] == [
        "the store does not answer",
        "the store answers",
    ]
    assert {one["level"] for one in watch} == {"warning"} and watch[1]["failures"] >= 4
    verdict = command_json("verify", str(gateway.data), "--identity", str(identity(gateway)))
    assert verdict["defects"] == []
    record = b"".join(one.read_bytes() for one in gateway.data.glob("evidence/seg/*/*/*"))
    marks = [record.index(mark) for mark in (b'{"ev":"stale"}', b'{"ev":"fresh"}')]
    assert marks == sorted(marks)
