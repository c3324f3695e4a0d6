# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are nowhere seen, two writers, a store that is away, and the record of it all."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load_settings
from gateway.record.history import read_history
from gateway.record.places import Reach, find_places
from gateway.record.reader import Evidence
from gateway.wiring.own_files import closed_to_objects
from tests.declare.conftest import CREDENTIAL, TARGET, Place, World

SECRET = "correct-horse-battery-51aple"


def everywhere(folder: Path) -> list[str]:
    """Files that hold the secret."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and SECRET.encode() in path.read_bytes():
            found.append(path.name)
    return found


async def test_a_secret_by_value_is_written_only(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    document = {"user": "app", "secret": SECRET}
    dry = await world.put("credentials/app?dry_run=true", document)
    assert dry.json()["secret"] is True and await world.names("credentials") == []
    made = await world.put("credentials/app", document)
    assert made.status_code == 201, made.text
    assert made.json()["object"]["document"]["secret"] == {"from": "vault"}
    vault = world.gateway.declarer.keeper
    assert vault is not None and await vault.held("app")
    answers = [dry.text, made.text]
    for path in ("credentials", "credentials/app", "vault/credentials", "self"):
        answers.append((await world.admin.get(f"/api/v1/{path}")).text)
    # Whoever cannot read it cannot repeat it: it stays.
    kept = await world.put("credentials/app", {"user": "app2"})
    assert kept.json()["after"]["secret"] == {"from": "vault"}
    again = await world.put("credentials/app", {"credential": "app", "user": "app2"})
    assert again.json()["changed"] is False
    wrong = await world.put("credentials/app", {"user": SECRET, "login": SECRET, "secret": 5})
    too_long = await world.put("credentials/app", {"user": "a", "secret": "x" * 70_000})
    assert (wrong.status_code, too_long.status_code) == (422, 422)
    assert await vault.held("app")
    gone = await world.admin.delete("/api/v1/credentials/app")
    assert gone.status_code == 200 and not await vault.held("app")
    for text in (*answers, kept.text, again.text, gone.text, caplog.text):
        assert SECRET not in text
    assert everywhere(world.folder) == []


async def test_a_refused_order_leaves_the_secret_as_it_was(world: World) -> None:
    await world.declared("credentials/app", {"user": "app", "secret": SECRET})
    vault: Any = world.gateway.declarer.keeper
    before, other = await vault.versions("app"), {"user": "a", "secret": "x"}
    refused = [
        await world.put("credentials/app", {"user": 5, "secret": "another"}),
        await world.put("credentials/app", other, headers={"if-match": '"0"'}),
        await world.put("credentials/app?managed_by=ansible", other),
    ]
    assert [one.status_code for one in refused] == [422, 412, 409]
    assert await vault.versions("app") == before


async def test_no_object_reads_the_gateways_own_files(world: World) -> None:
    data = world.folder / "data"
    (world.folder / "link").symlink_to(data)
    for path in (
        data / "master.key",
        world.folder / "link" / "master.key",
        data / ".." / "data" / "state.sqlite",
        world.folder / "trailgate.yaml",
        Path("/proc/self/environ"),
        Path("/proc/thread-self/root/proc/self/environ"),
        Path.home() / ".aws" / "credentials",
        Path.home() / ".pgpass",
    ):
        answer = await world.put("credentials/c", {"user": "a", "secret": {"from": f"file:{path}"}})
        assert answer.status_code == 422
        assert "the gateway's own files" in answer.json()["errors"][0]["detail"]


async def test_no_issuer_has_the_gateway_ask_its_cloud(world: World) -> None:
    issuer = {"audience": "trailgate", "url": "https://169.254.169.254"}
    keys = {**issuer, "url": "https://idp.example", "jwks": {"url": "https://[fd00:ec2::254]/k"}}
    for document in (issuer, keys):
        answer = await world.put("issuers/cloud", document)
        assert answer.status_code == 422
        assert "link-local or metadata address" in answer.json()["errors"][0]["detail"]


async def test_what_is_no_file_is_neither_waited_for_nor_read(world: World) -> None:
    pipe = world.folder / "pipe"
    os.mkfifo(pipe)
    async with asyncio.timeout(30):
        for path in (pipe, Path("/dev/zero"), world.folder):
            source = {"from": f"file:{path}"}
            answer = await world.put("credentials/c", {"user": "a", "secret": source})
            assert answer.status_code == 422
            assert "no regular file" in answer.json()["errors"][0]["detail"]
        assert (await world.put("credentials/app", CREDENTIAL)).status_code == 201


def test_files_that_prove_the_gateway_to_others_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://app:pw@127.0.0.1/state")
    (tmp_path / "trailgate.yaml").write_text(
        f"data: {tmp_path}/data\n"
        'store: {from: "file:dsn"}\n'
        'master_key: {key: "systemd-credential:master"}\n'
    )
    settings, _ = load_settings(tmp_path / "trailgate.yaml")
    env = {"CREDENTIALS_DIRECTORY": f"{tmp_path}/credentials", "PGPASSFILE": f"{tmp_path}/pass"}
    closed = closed_to_objects(settings, env)
    for name in ("dsn", "credentials/master", "pass", "data", "trailgate.yaml"):
        assert tmp_path / name in closed, name
    assert tmp_path / "credentials" not in closed, "targets' secrets are there"


async def test_of_two_writers_with_one_tag_one_wins(world: World) -> None:
    made = await world.put("credentials/app", CREDENTIAL)
    headers = {"if-match": made.headers["etag"]}
    answers = await asyncio.gather(
        *(
            world.put("credentials/app", {**CREDENTIAL, "user": f"u{number}"}, headers=headers)
            for number in range(8)
        )
    )
    assert sorted(one.status_code for one in answers) == [200] + [412] * 7
    (won,) = [one.json() for one in answers if one.status_code == 200]
    found = await world.get("credentials/app")
    assert found["document"] == won["after"] and found["version"] == 2


async def test_conditions(world: World) -> None:
    fresh = {"if-none-match": "*"}
    assert (await world.put("credentials/a", CREDENTIAL, headers=fresh)).status_code == 201
    assert (await world.put("credentials/a", CREDENTIAL, headers=fresh)).status_code == 412
    there = {"if-match": "*"}
    assert (await world.put("credentials/a", CREDENTIAL, headers=there)).status_code == 200
    assert (await world.put("credentials/b", CREDENTIAL, headers=there)).status_code == 412
    for wrong in ({"if-match": "abc"}, {"if-match": 'W/"1"'}, {"if-none-match": '"1"'}):
        assert (await world.put("credentials/a", CREDENTIAL, headers=wrong)).status_code == 400
    old = (await world.admin.get("/api/v1/credentials/a")).headers["etag"]
    await world.declared("credentials/a", {**CREDENTIAL, "user": "other"})
    gone = await world.admin.delete("/api/v1/credentials/a", headers={"if-match": old})
    assert gone.status_code == 412 and await world.names("credentials") == ["a"]


async def test_another_manager_must_adopt(world: World) -> None:
    made = await world.put("credentials/a?managed_by=terraform:prod", CREDENTIAL)
    assert made.status_code == 201
    for path in ("credentials/a", "credentials/a?managed_by=terraform:dev"):
        answer = await world.put(path, CREDENTIAL)
        assert answer.status_code == 409 and "terraform:prod" in answer.json()["detail"]
    adopted = await world.put("credentials/a?managed_by=ansible&adopt=true", CREDENTIAL)
    assert adopted.json()["object"]["managed_by"] == "ansible"
    for wrong in ("file", "embedded", "A", "a:b:c", "a b", "", "x" * 40):
        answer = await world.put("credentials/b", CREDENTIAL, params={"managed_by": wrong})
        assert answer.status_code == 400, wrong


async def test_a_dry_run_says_the_same_and_does_nothing(world: World) -> None:
    told = await world.put("credentials/app?dry_run=true", CREDENTIAL)
    assert told.status_code == 200 and told.json()["action"] == "create"
    assert told.json()["object"] is None
    assert await world.names("credentials") == []
    wrong = await world.put("targets/t?dry_run=true", TARGET)
    assert wrong.status_code == 422
    done = await world.put("credentials/app", CREDENTIAL)
    assert {**done.json(), "object": None} == told.json()
    gone = await world.admin.delete("/api/v1/credentials/app?dry_run=true")
    assert gone.json()["action"] == "delete" and await world.names("credentials") == ["app"]


async def test_a_set_is_declared_whole_or_not_at_all(world: World) -> None:
    objects = [
        {"target": "orders", **TARGET},  # before the credential that it needs
        {"credential": "app", **CREDENTIAL},
        {"policy": "p", "rules": [{"id": "x", "alow": {}}]},
    ]
    refused = await world.admin.post("/api/v1/apply", json={"objects": objects, "set": "s"})
    assert refused.status_code == 422
    assert await world.names("targets") == await world.names("credentials") == []
    done = await world.admin.post("/api/v1/apply", json={"objects": objects[:2], "set": "s"})
    assert done.status_code == 200, done.text
    assert [one["action"] for one in done.json()["changes"]] == ["create", "create"]
    twice = {"objects": [objects[1], objects[1]], "set": "s"}
    assert (await world.admin.post("/api/v1/apply", json=twice)).status_code == 422
    for wrong in (
        {"objects": {}},
        {"objects": [], "prune": True},
        {"objects": [], "set": "s", "managed_by": "ansible"},
        {"objects": [], "set": 5},
        {"objects": [], "purge": True},
        {"objects": [], "set": "../x"},
    ):
        assert (await world.admin.post("/api/v1/apply", json=wrong)).status_code == 400, wrong


async def test_a_store_that_is_away_changes_nothing(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    store = world.folder / "data" / "state.sqlite"
    blocked = sqlite3.connect(store, isolation_level=None)
    blocked.execute("BEGIN EXCLUSIVE")
    try:
        answer = await world.put("targets/orders", TARGET)
    finally:
        blocked.execute("ROLLBACK")
        blocked.close()
    assert answer.status_code == 503, answer.text
    assert await world.names("targets") == []
    with pytest.raises(KeyError):
        world.gateway.port_of("orders")
    assert (await world.put("targets/orders", TARGET)).status_code == 201


async def test_every_change_is_in_the_nodes_record(place: Place) -> None:
    async with place.running() as world:
        await world.declared("credentials/app", {"user": "app", "secret": SECRET})
        ada = world.bearer("ada", "admins")
        document = {**CREDENTIAL, "user": "other"}
        changed = await world.anybody.put("/api/v1/credentials/app", json=document, headers=ada)
        assert changed.status_code == 200, changed.text
        await world.put("credentials/app", document)  # nothing new: nothing to record
        await world.put("credentials/app", {"user": 5})
    data = place.folder / "data"
    evidence = Evidence(data, place.folder / "auditor" / "identity")
    opens = read_history(find_places(data, Reach()).evidence).opens
    frames = [
        (frame.meta, frame.payload)
        for session, opened in opens.items()
        if opened.kind == "node"
        for frame in evidence.frames(session)
        if frame.kind == "node" and str(frame.meta.get("event", "")).startswith("config.")
    ]
    made, second = frames
    assert made[0]["action"] == "create" and made[0]["before"] is None and made[0]["secret"] is True
    assert made[0]["by"]["uid"] >= 0
    assert second[0]["by"]["chain"] == ["ada"] and second[0]["before"] == made[0]["after"]
    assert (second[0]["kind"], second[0]["name"], second[0]["version"]) == ("credential", "app", 1)
    assert json.loads(second[1] or b"")["user"] == "other"
    assert everywhere(place.folder) == []
