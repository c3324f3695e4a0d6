# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: by access objects, never by an exchanged token; the socket by its peer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from gateway.config.objects import AccessObject, Objects
from gateway.config.values import ObjectName
from gateway.declare.rights import Rights
from gateway.model import Grant, Hop, Identity
from tests.declare.conftest import CREDENTIAL, TARGET, World

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
READING = [
    ("GET", "/api/v1/targets"),
    ("GET", "/api/v1/recipients/auditor"),
    ("GET", "/api/v1/policies"),
]
WRITING = [
    ("PUT", "/api/v1/credentials/app"),
    ("DELETE", "/api/v1/credentials/app"),
    ("POST", "/api/v1/apply"),
]


async def call(
    world: World, method: str, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    body: Any = {"objects": []} if path.endswith("apply") else CREDENTIAL
    json = body if method in ("PUT", "POST") else None
    return await world.anybody.request(method, path, headers=headers, json=json)


async def child_of(world: World, token: str) -> dict[str, str]:
    form = {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "agent_name": "helper",
    }
    answer = await world.anybody.post("/oauth/token", data=form)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


async def test_nobody_without_a_right_reads_or_changes_anything(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    before = world.gateway.declarer.revision
    admins_child = await child_of(world, world.token("ada", "admins"))
    for method, path in [*READING, *WRITING]:
        assert (await call(world, method, path)).status_code == 401, path
        for headers in (
            world.bearer("eve", "agents"),
            world.bearer("olga", "operators"),
            world.bearer("rita", "readers"),
            admins_child,
        ):
            answer = await call(world, method, path, headers)
            assert answer.status_code == 403, (path, answer.text)
            assert "needs the right" in answer.json()["detail"]
    assert world.gateway.declarer.revision == before


async def test_an_auditor_reads_and_an_admin_writes(world: World) -> None:
    auditor, admin = world.bearer("aud", "auditors"), world.bearer("ada", "admins")
    for method, path in READING:
        assert (await call(world, method, path, auditor)).status_code == 200
    for method, path in WRITING:
        assert (await call(world, method, path, auditor)).status_code == 403
    made = await call(world, "PUT", "/api/v1/credentials/app", admin)
    assert made.status_code == 201 and made.json()["object"]["changed_by"] == "ada"


async def test_rights_go_with_the_object_that_gave_them(world: World) -> None:
    document = {"groups": ["newcomers"], "may": ["admin"]}
    headers = world.bearer("nina", "newcomers")
    assert (await call(world, "GET", "/api/v1/targets", headers)).status_code == 403
    await world.declared("accesses/new", document)
    assert (await call(world, "GET", "/api/v1/targets", headers)).status_code == 200
    await world.admin.delete("/api/v1/accesses/new")
    assert (await call(world, "GET", "/api/v1/targets", headers)).status_code == 403


async def test_grants_are_seen_and_revoked_by_who_has_the_right_everywhere(world: World) -> None:
    alice = world.token("alice", "agents")
    child = await child_of(world, alice)
    grant = (await world.anybody.get("/api/v1/self", headers=child)).json()["grant"]
    for subject, group in (("olga", "operators"), ("rita", "readers"), ("aud", "auditors")):
        headers = world.bearer(subject, group)
        shown = (await world.anybody.get("/api/v1/grants", headers=headers)).text
        assert grant not in shown
        denied = await world.anybody.delete(f"/api/v1/grants/{grant}", headers=headers)
        assert denied.status_code == 404
    await world.declared("accesses/ops", {"groups": ["ops"], "may": ["operate"]})
    ops = world.bearer("omar", "ops")
    assert grant in (await world.anybody.get("/api/v1/grants", headers=ops)).text
    done = await world.anybody.delete(f"/api/v1/grants/{grant}", headers=ops)
    assert done.json()["revoked"] == [grant]


def rights(**more: Any) -> Rights:
    access = AccessObject(ObjectName("a"), ("dba",), more.pop("may"), **more)
    return Rights(lambda: Objects(accesses={"a": access}))


def of(*groups: str, **more: Any) -> Grant:
    return Grant("g", Identity("https://id", "s"), groups, **more)


def test_a_right_is_bound_to_groups_targets_and_issuers() -> None:
    found = rights(may=("operate", "approve"), targets=("orders", "stock*"))
    assert found.may(of("dba"), "operate", "orders") and found.may(of("dba"), "approve", "stock2")
    assert not found.may(of("dba"), "operate", "other") and not found.may(of("x"), "operate")
    assert not found.may(of("dba"), "audit") and not found.everywhere(of("dba"), "operate")
    assert not rights(may=("operate",), issuers=("gone",)).may(of("dba"), "operate")


@pytest.mark.parametrize("right", ["approve", "read_sessions", "audit", "operate", "admin"])
def test_an_exchanged_or_narrowed_token_has_no_right(right: Any) -> None:
    found = rights(may=(right,))
    assert found.may(of("dba"), right)
    assert not found.may(of("dba", chain=(Hop("helper", proved=True),)), right)
    assert not found.may(of("dba", narrowing=({"scope": ["orders"]},)), right)


def test_admin_includes_everything_but_approving() -> None:
    found = rights(may=("admin",))
    rest: list[Any] = ["approve", "read_sessions", "audit", "operate"]
    assert [one for one in rest if found.may(of("dba"), one)] == rest[1:]


ASK = """
import http.client, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX); self.sock.connect(sys.argv[1])
connection = Connection("gateway")
connection.request(sys.argv[2], sys.argv[3])
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
async def test_the_socket_asks_the_kernel_who_is_there(world: World) -> None:
    socket = world.folder / "data" / "admin.sock"
    for opened in (world.folder, socket.parent):
        opened.chmod(0o755)
    socket.chmod(0o666)  # as if someone had opened all that keeps others out
    calls = [("GET", "/api/v1/targets"), ("POST", "/api/v1/token"), ("GET", "/api/v1/grants")]
    for method, path in calls:
        answer = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-I", "-c", ASK, str(socket), method, path],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert answer.stdout.startswith("403 "), answer
        assert "for root and the gateway's own user" in answer.stdout


async def test_operate_on_one_target_reaches_its_credentials_alone(world: World) -> None:
    """A credential that another target uses too is not one operator's to change."""
    for name in ("app", "both", "pay", "loose"):
        await world.declared(f"credentials/{name}", CREDENTIAL | {"user": name})
    orders = TARGET | {"credentials": ["app", "both"]}
    await world.declared("targets/orders", orders)
    await world.declared("targets/payroll", TARGET | {"credentials": ["pay", "both"]})
    olga, ada = world.bearer("olga", "operators"), world.bearer("ada", "admins")

    async def seen(headers: dict[str, str]) -> list[str]:
        answer = await world.anybody.get("/api/v1/vault/credentials", headers=headers)
        assert answer.status_code == 200, answer.text
        return [one["name"] for one in answer.json()]

    assert await seen(olga) == ["app"]
    assert await seen(ada) == ["app", "both", "loose", "pay"]
    calls = [("GET", "versions"), ("GET", "rotations"), ("POST", "rotate")]
    for method, what in calls:
        for name in ("both", "pay", "loose", "none"):
            path = f"/api/v1/credentials/{name}/{what}"
            answer = await world.anybody.request(method, path, headers=olga)
            assert answer.status_code == 404, (path, answer.text)
        answer = await world.anybody.request(
            method, f"/api/v1/credentials/app/{what}", headers=olga
        )
        # 409: it is hers to rotate, but has no rotation.
        assert answer.status_code == (409 if method == "POST" else 200), answer.text
