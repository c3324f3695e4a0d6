# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo plays its whole story, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.live.gateway_process import command

pytestmark = [pytest.mark.live, pytest.mark.slow]


def actors(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {node["actor"]: actors(node["children"]) for node in nodes}


def test_the_demo_for_machines(tmp_path: Path) -> None:
    done = command("demo", "--json", "--data", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["ok"]
    assert actors(document["tree"]) == {"alice": {"orchestrator": {"reader": {}, "writer": {}}}}
    (denied,) = document["denied"]
    assert denied["request"]["text"] == "DROP TABLE customers"
    assert denied["chain"] == ["alice", "orchestrator", "reader"]
    assert document["verification"]["ok"]
    assert document["verification"]["content"] == "opened"
    assert len(document["sessions"]) == 2


def test_the_demo_for_people(tmp_path: Path) -> None:
    done = command("demo", "--data", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    for part in (
        "alice",
        "orchestrator",
        "DROP TABLE customers",
        "Ada Lovelace",
        "no-schema-change",
    ):
        assert part in done.stdout
