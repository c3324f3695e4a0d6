# SPDX-License-Identifier: GPL-3.0-or-later
"""diff, apply, get and delete, as processes, by the admin socket and with a token."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.declare.conftest import World

SET = """credential: app
user: app
login: trust
---
target: orders
protocol: postgresql
address: 127.0.0.1:5432
credentials: [app]
tls: {mode: disable}
labels: {hours: "22:00", flag: "on", octal: "0o17", number: "1e3", bidi: "a\\u202eb"}
---
policy: agents
match: {groups: [agents]}
rules:
  - id: read
    allow: {sql: {kinds: [read]}}
    at: {from: 22:00, to: 04:00, zone: UTC}
"""


async def run(world: World, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    data = [] if environment else ["--data", str(world.folder / "data")]
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "gateway", *words, *data],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def written(world: World, text: str) -> str:
    path = world.folder / "set.yaml"
    path.write_text(text)
    return str(path)


async def test_a_set_is_compared_applied_printed_and_pruned(world: World) -> None:
    path = written(world, SET)
    before = await run(world, "diff", "-f", path)
    assert before.returncode == 1, before.stderr
    assert "+++ target orders" in before.stdout and "+protocol: postgresql" in before.stdout
    assert "\u202e" not in before.stdout
    assert await world.names("targets") == []
    first = await run(world, "apply", "-f", path, "--set", "shop")
    assert first.returncode == 0, first.stderr
    assert sorted(first.stdout.splitlines()) == [
        "created: credential app",
        "created: policy agents",
        "created: target orders",
    ]
    same = await run(world, "diff", "-f", path)
    assert (same.returncode, same.stdout) == (0, "")
    second = await run(world, "apply", "-f", path, "--set", "shop", "-o", "json")
    answer = json.loads(second.stdout)
    assert {change["action"] for change in answer["changes"]} == {"none"}
    assert answer["managed_by"] == "apply:shop"
    other = await run(world, "apply", "-f", path, "--set", "else")
    assert other.returncode == 1 and "is managed by apply:shop" in other.stderr
    fewer = written(world, SET.partition("---\ntarget")[0])
    less = await run(world, "diff", "-f", fewer, "--set", "shop", "--prune", "-o", "json")
    assert less.returncode == 1
    assert {(one["action"], one["name"]) for one in json.loads(less.stdout)} == {
        ("delete", "orders"),
        ("delete", "agents"),
    }
    pruned = await run(world, "apply", "-f", fewer, "--set", "shop", "--prune")
    assert pruned.returncode == 0 and "deleted: target orders" in pruned.stdout
    assert await world.names("targets") == await world.names("policies") == []
    assert await world.names("accesses") == ["admins", "auditors", "operators", "readers"]


async def test_what_get_prints_apply_takes(world: World) -> None:
    path = written(world, SET)
    assert (await run(world, "apply", "-f", path)).returncode == 0
    found = await run(world, "get", "targets")
    (document,) = yaml.safe_load_all(found.stdout)
    labels = document.pop("labels")
    assert labels == {
        "hours": "22:00", "flag": "on", "octal": "0o17", "number": "1e3", "bidi": "a\u202eb"
    }  # fmt: skip
    for kind in ("target", "credential", "policy"):
        printed = await run(world, "get", kind)
        again = await run(world, "diff", "-f", written(world, printed.stdout))
        assert (again.returncode, again.stdout) == (0, ""), again.stderr
    one = json.loads((await run(world, "get", "policy", "agents", "-o", "json")).stdout)
    assert one["name"] == "agents" and one["managed_by"] == "apply"
    table = await run(world, "get", "issuer", "-o", "table")
    assert table.stdout.splitlines()[1].split() == ["corp", "file"]
    missing = await run(world, "get", "target", "none")
    assert missing.returncode == 1 and "there is no target none" in missing.stderr
    assert "known are" in (await run(world, "get", "tarp")).stderr


async def test_delete_says_who_still_needs_it(world: World) -> None:
    await run(world, "apply", "-f", written(world, SET), "--set", "shop")
    refused = await run(world, "delete", "credential", "app", "--set", "shop")
    assert refused.returncode == 1 and "target orders/credentials" in refused.stderr
    theirs = await run(world, "delete", "target", "orders")
    assert theirs.returncode == 1 and "managed by apply:shop" in theirs.stderr
    done = await run(world, "delete", "target", "orders", "--adopt")
    assert (done.returncode, done.stdout) == (0, "deleted: target orders\n")
    again = await run(world, "delete", "target", "orders")
    assert again.returncode == 1 and "there is no target orders" in again.stderr


async def test_wrong_files_are_named_and_change_nothing(world: World) -> None:
    wrong = written(world, SET.replace("postgresql", "telnet"))
    for command, code in (("apply", 1), ("diff", 2)):
        answer = await run(world, command, "-f", wrong)
        assert answer.returncode == code
        assert "target orders/protocol: " in answer.stderr and "is no protocol" in answer.stderr
    broken = await run(world, "apply", "-f", written(world, "target: [\n"))
    assert broken.returncode == 2 and "set.yaml:2:1: not valid YAML" in broken.stderr
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    many = await run(world, "apply", "-f", written(world, bomb))
    assert many.returncode == 2 and "more than 500000 values" in many.stderr
    assert await world.names("credentials") == []


async def test_with_a_token_over_tcp(world: World) -> None:
    path = written(world, SET)
    place = {"TRAILGATE_URL": world.gateway.url}
    nobody = await run(world, "apply", "-f", path, **place)
    assert nobody.returncode == 1 and "send a token" in nobody.stderr
    plain = {**place, "TRAILGATE_TOKEN": world.token("eve", "data")}
    assert (await run(world, "apply", "-f", path, **plain)).returncode == 1
    admin = {**place, "TRAILGATE_TOKEN": world.token("ada", "admins")}
    done = await run(world, "apply", "-f", path, **admin)
    assert done.returncode == 0, done.stderr
    shown = json.loads((await run(world, "get", "target", "orders", "-o", "json", **admin)).stdout)
    assert shown["changed_by"] == "ada"


async def test_a_public_key_beside_the_file_is_sent_along(world: World) -> None:
    folder = Path(written(world, "x: y\n")).parent
    text = 'recipient: second\nkey: {from: "file:auditor/recipient.pub"}\n'
    assert (await run(world, "apply", "-f", written(world, text))).returncode == 0
    found = json.loads((await run(world, "get", "recipient", "second", "-o", "json")).stdout)
    key = (folder / "auditor" / "recipient.pub").read_text().strip()
    assert found["document"]["key"] == key
