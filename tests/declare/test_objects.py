# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects through the API of a running gateway: kept, in force at once, all or nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.declare.conftest import CREDENTIAL, TARGET, Place, World

POLICY = {
    "match": {"groups": ["agents"]},
    "rules": [{"id": "read", "allow": {"sql": {"kinds": ["read"]}}}],
    "tests": [
        {"as": {"groups": ["agents"]}, "target": "orders", "sql": "select 1", "expect": "allow"},
        {"as": {"groups": ["agents"]}, "target": "orders", "sql": "drop table t", "expect": "deny"},
    ],
}


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return dict(answer.json())


async def test_an_object_is_made_read_changed_and_deleted(world: World) -> None:
    made = await world.put("credentials/app", CREDENTIAL)
    assert made.status_code == 201 and made.json()["action"] == "create"
    assert made.json()["before"] is None
    found = await world.admin.get("/api/v1/credentials/app")
    body = found.json()
    assert found.headers["etag"] == made.headers["etag"] == body["etag"]
    assert body["document"] == {"credential": "app", **CREDENTIAL}
    assert (body["version"], body["managed_by"]) == (1, "api")
    assert body["changed_by"].startswith("uid ") and body["changed_at"].endswith("Z")
    same = await world.put("credentials/app", {"login": "trust", "user": "app"})
    assert same.status_code == 200 and same.json()["changed"] is False
    assert same.headers["etag"] == made.headers["etag"]
    other = await world.put("credentials/app", {**CREDENTIAL, "user": "app2"})
    assert other.json()["action"] == "update" and other.json()["before"]["user"] == "app"
    assert other.json()["object"]["version"] == 2
    gone = await world.admin.delete("/api/v1/credentials/app")
    assert gone.status_code == 200 and gone.json()["action"] == "delete"
    problem(await world.admin.get("/api/v1/credentials/app"), 404)
    problem(await world.admin.delete("/api/v1/credentials/app"), 404)
    again = await world.declared("credentials/app", CREDENTIAL)
    assert again["object"]["version"] == 4  # never the tag of another state


async def test_a_target_listens_at_once_and_no_more_once_deleted(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    await world.declared("targets/orders", TARGET)
    port = world.gateway.port_of("orders")
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await world.declared("targets/orders", {**TARGET, "labels": {"env": "prod"}})
    assert world.gateway.port_of("orders") == port
    own = (await world.get("self"))["targets"]
    assert [one["name"] for one in own] == ["orders"]
    assert (await world.admin.delete("/api/v1/targets/orders")).status_code == 200
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert (await world.get("self"))["targets"] == []


async def test_two_targets_change_their_ports_in_one_set(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    ports = []
    for name in ("a", "b"):
        await world.declared(f"targets/{name}", TARGET)
        ports.append(world.gateway.port_of(name))
    for name in ("a", "b"):
        await world.admin.delete(f"/api/v1/targets/{name}")

    async def apply(first: int, second: int) -> None:
        objects = [
            {"target": name, **TARGET, "listen": f"127.0.0.1:{port}"}
            for name, port in (("a", first), ("b", second))
        ]
        answer = await world.admin.post("/api/v1/apply", json={"objects": objects})
        assert answer.status_code == 200, answer.text

    await apply(*ports)
    await apply(ports[1], ports[0])
    assert (world.gateway.port_of("a"), world.gateway.port_of("b")) == (ports[1], ports[0])


async def test_a_port_that_is_taken_changes_nothing(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    told = problem(await world.put("targets/t", {**TARGET, "listen": f"127.0.0.1:{port}"}), 409)
    assert "choose another port" in told["detail"]
    assert await world.names("targets") == []
    taken.close()


WRONG = [
    ("targets/t", {**TARGET, "credentials": ["ap"]}, "/credentials", "no credential 'ap'"),
    ("targets/t", {**TARGET, "adress": "x:1"}, "/adress", "unknown key"),
    ("targets/t", {**TARGET, "address": "x"}, "/address", "is not an address"),
    ("targets/t", {**TARGET, "protocol": "telnet"}, "/protocol", "is no protocol here"),
    ("targets/t", {**TARGET, "protocol": {"a": 1}}, "/protocol", "expected text"),
    ("targets/t", {**TARGET, "text_limit": "many"}, "/text_limit", "expected a whole number"),
    ("targets/t", {**TARGET, "tls": {"ca_path": "ca.pem"}}, "/tls/ca_path", "path is relative"),
    ("targets/t", {**TARGET, "tls": {"ca_path": "/no/ca"}}, "/tls", "is not a file"),
    ("targets/t", {**TARGET, "databases": ["a", 5]}, "/databases/1", "expected text"),
    ("targets/t", {**TARGET, "labels": {"a/b~": 1}}, "/labels/a~1b~0", "expected text"),
    ("targets/t", {**TARGET, "labels": {"a": "x\x00"}}, "/labels/a", "cannot be kept"),
    ("targets/t", {**TARGET, "target": "other"}, "/target", "must be its name"),
    ("credentials/c", {"user": "a", "password": "hunter2"}, "/password", "unknown key"),
    ("credentials/c", {"user": "a"}, "", "has no secret"),
    ("credentials/c", {"user": "a", "secret": {"from": "file:x"}}, "/secret/from", "relative"),
    ("credentials/c", {"user": "a", "secret": 5}, "/secret", "expected text"),
    ("credentials/c", {"user": "a", "secret": " "}, "/secret", "the secret is empty"),
    ("issuers/i", {"url": "http://id.example", "audience": "x"}, "/url", "not safe there"),
    ("agents/a", {"issuer": "nobody", "subject": "s"}, "/issuer", "no issuer 'nobody'"),
    ("persons/p", {"identities": []}, "/identities", "the list is empty"),
    ("recipients/r", {"key": "no key"}, "/key", ""),
    ("accesses/x", {"groups": ["g"], "may": ["fly"]}, "/may/0", "not one of its words"),
    ("accesses/x", {"groups": [], "may": ["audit"]}, "/groups", "the list is empty"),
    (
        "accesses/x",
        {"groups": ["g"], "may": ["admin"], "targets": ["t"]},
        "/targets",
        "not bounded by targets",
    ),
    ("policies/p", {"rules": [{"id": "a"}]}, "/rules/0", "exactly one of"),
    ("policies/p", {"rules": [], "moed": "x"}, "/moed", "did you mean `mode`"),
    ("policies/p", {**POLICY, "match": {"groups": "g"}}, "/match/groups", "must be a list"),
]


async def test_a_wrong_document_is_refused_at_its_place(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    before = world.gateway.declarer.revision
    for path, document, pointer, detail in WRONG:
        answer = await world.put(path, document)
        told = problem(answer, 422)
        assert "hunter2" not in answer.text
        found = [(one["pointer"], one["detail"]) for one in told["errors"]]
        assert any(at == pointer and detail in what for at, what in found), (path, found)
    assert world.gateway.declarer.revision == before


NO_JSON = ["", "[]", "{", '{"user": NaN}', '{"user": "\\ud800"}', '{"a": 1, "a": 1}', "[" * 100_000]


async def test_what_is_no_json_object_is_refused(world: World) -> None:
    headers = {"content-type": "application/json"}
    for text in NO_JSON:
        answer = await world.admin.put("/api/v1/credentials/c", content=text, headers=headers)
        assert answer.status_code in (400, 422), (text[:20], answer.text)
    form = await world.admin.put("/api/v1/credentials/c", content="a=b")
    problem(form, 415)
    large = '{"user": "' + "x" * (1 << 20) + '"}'
    answer = await world.admin.put("/api/v1/credentials/c", content=large, headers=headers)
    problem(answer, 413)
    deep: Any = "x"
    for _ in range(200):
        deep = {"a": deep}
    told = problem(await world.put("targets/t", {**TARGET, "labels": deep}), 422)
    assert any("nested too deeply" in one["detail"] for one in told["errors"])
    told = problem(await world.put("policies/p", {**POLICY, "match": deep}), 422)
    assert any("nested too deeply" in one["detail"] for one in told["errors"])


async def test_a_policy_decides_at_once_and_its_own_tests_must_pass(world: World) -> None:
    failing = {**POLICY, "tests": [{**POLICY["tests"][0], "expect": "deny"}]}  # type: ignore[index, dict-item]
    told = problem(await world.put("policies/p", failing), 422)
    assert told["errors"][0]["pointer"] == "/tests/0"
    assert "expects deny, but it is allow" in told["errors"][0]["detail"]
    await world.declared("policies/p", POLICY)
    (document,) = world.gateway.policies.documents
    assert (document.name, len(document.rules)) == ("p", 1)
    await world.admin.delete("/api/v1/policies/p")
    assert world.gateway.policies.documents == ()


async def test_files_objects_are_shown_and_stay_as_they_are(world: World) -> None:
    (issuer,) = await world.get("issuers")
    assert (issuer["managed_by"], issuer["version"]) == ("file", 0)
    assert issuer["document"]["url"] == world.issuer.url
    for call in (
        world.put("issuers/corp", {"url": "https://a.example", "audience": "x"}),
        world.admin.delete("/api/v1/issuers/corp"),
    ):
        assert "stands in a file" in problem(await call, 409)["detail"]


async def test_what_is_declared_is_there_after_a_restart(place: Place) -> None:
    async with place.running() as world:
        await world.declared("credentials/app", CREDENTIAL)
        await world.declared("targets/orders", TARGET)
        await world.declared("policies/p", POLICY)
        before = [await world.get(kinds) for kinds in ("credentials", "targets", "policies")]
    async with place.running() as world:
        after = [await world.get(kinds) for kinds in ("credentials", "targets", "policies")]
        assert after == before
        assert world.gateway.port_of("orders")
        assert [one.name for one in world.gateway.policies.documents] == ["p"]


async def test_what_others_need_cannot_be_deleted(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    await world.declared("targets/orders", TARGET)
    told = problem(await world.admin.delete("/api/v1/credentials/app"), 409)
    assert told["errors"][0]["object"] == "target orders"
    needed = "credential app is still needed by target orders: nothing was changed"
    assert told["detail"] == needed
    cure = "change or delete target orders first, or all of them in one apply"
    assert told["errors"][0]["cure"] == cure
    assert await world.names("credentials") == ["app"]


async def test_a_deletion_does_not_blame_what_is_deleted_for_what_was_wrong_before(
    world: World,
) -> None:
    secret = world.folder / "secret"
    secret.write_text("s")
    of_file = {"user": "x", "secret": {"from": f"file:{secret}"}}
    await world.declared("credentials/of-file", of_file)
    await world.declared("credentials/app", CREDENTIAL)
    await world.declared("targets/orders", TARGET)
    secret.unlink()
    told = problem(await world.admin.delete("/api/v1/targets/orders"), 409)
    wrong = "credential of-file is wrong already, whether or not target orders is deleted"
    assert told["detail"] == f"{wrong}: nothing was changed"
    assert (
        "cannot be read" in told["errors"][0]["detail"] or "secret" in told["errors"][0]["detail"]
    )
    assert told["errors"][0]["cure"].startswith("correct or delete credential of-file first")
    # What a deletion causes is told apart from what was wrong before.
    told = problem(await world.admin.delete("/api/v1/credentials/app"), 409)
    assert told["detail"].startswith("credential app is still needed by target orders:")
    assert [one["object"] for one in told["errors"]] == ["credential of-file", "target orders"]
    assert (await world.admin.delete("/api/v1/credentials/of-file")).status_code == 200
    assert (await world.admin.delete("/api/v1/targets/orders")).status_code == 200


async def test_lists_come_in_pages(world: World) -> None:
    objects = [{"credential": f"c{i:02}", **CREDENTIAL} for i in range(7)]
    await world.admin.post("/api/v1/apply", json={"objects": objects})
    path, seen, pages = "/api/v1/credentials?limit=3", [], 0
    while path:
        answer = await world.admin.get(path)
        seen += [one["name"] for one in answer.json()]
        path, pages = answer.links.get("next", {}).get("url", ""), pages + 1
    assert seen == [f"c{i:02}" for i in range(7)] and pages == 3
    for query in ("limit=0", "limit=1001", "limit=x", "limit=-1", "page=2", "limit=1&limit=2"):
        problem(await world.admin.get(f"/api/v1/credentials?{query}"), 400)
