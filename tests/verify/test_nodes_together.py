# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes of one store, each with evidence and a key of its own, verified together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.admin.cli.sessions import COMMAND as SESSIONS
from gateway.admin.cli.verify import COMMAND
from gateway.record.recorder import NodeRecorder
from tests.record.place import Place
from tests.record.test_grants import below, minted, root_grant, used


async def started(place: Place, node: str) -> NodeRecorder:
    return await NodeRecorder.start(replace(place.options(), node=node))


@pytest.fixture
async def nodes(tmp_path: Path) -> tuple[Place, Place]:
    """A person's grant was given at gw1; it, and its agent's, were used at gw2 as well."""
    places = Place(tmp_path / "one"), Place(tmp_path / "two")
    places[0].recipient()
    shutil.copytree(places[0].auditor, places[1].auditor)
    one = await started(places[0], "gw1")
    root = await minted(one, root_grant())
    agent = await minted(one, below(root, "reader"), root)
    await used(one, root)
    two = await started(places[1], "gw2")
    await used(two, agent)
    await minted(two, below(agent, "helper"), agent)
    await one.stop()
    await two.stop()
    return places


def together(nodes: tuple[Place, Place], folder: Path) -> Path:
    """As the auditors' page has it: one folder upon the other."""
    for place in nodes:
        for name in ("evidence", "keys"):
            if (place.data / name).is_dir():
                shutil.copytree(place.data / name, folder / name, dirs_exist_ok=True)
    return folder / "evidence"


def trusted(nodes: tuple[Place, ...], file: Path) -> Path:
    vkeys = [next(place.evidence.glob("log/*/*/node.vkey")).read_text() for place in nodes]
    file.write_text("".join(vkeys))
    return file


def verdict(*words: Any) -> dict[str, Any]:
    answer = CliRunner().invoke(COMMAND, [*map(str, words), "-o", "json"])
    return {**json.loads(answer.stdout), "exit_code": answer.exit_code}


async def test_one_node_alone_leaves_open_what_the_other_gave(nodes: tuple[Place, Place]) -> None:
    one, two = nodes
    trust = trusted((two,), two.data / "vkeys")
    told = verdict(two.evidence, "--trust", trust, "--identity", two.auditor / "identity")
    assert (told["exit_code"], told["defects"]) == (2, [])
    assert "minted in log/gw1/0, which was not given" in " ".join(told["unresolved"])


async def test_both_together_are_sound(nodes: tuple[Place, Place], tmp_path: Path) -> None:
    evidence = together(nodes, tmp_path / "both")
    trust = trusted(nodes, tmp_path / "vkeys")
    told = verdict(evidence, "--trust", trust, "--identity", nodes[0].auditor / "identity")
    assert (told["exit_code"], told["defects"], told["unresolved"]) == (0, [], [])
    assert told["checked"]["logs"] == 2 and told["content"] == "opened"
    listed = CliRunner().invoke(SESSIONS, ["list", "--data", str(evidence), "-o", "json"])
    assert {one["gateway"] for one in json.loads(listed.stdout)} == {"gw1", "gw2"}


async def test_no_two_nodes_write_a_file_of_one_name(nodes: tuple[Place, Place]) -> None:
    names = [
        {path.relative_to(place.data) for path in place.evidence.rglob("*") if path.is_file()}
        for place in nodes
    ]
    both = names[0] & names[1]
    assert {path.name for path in both if path.parts[1] != "policy"} == {"README.json"}
    readme = {(place.evidence / "README.json").read_bytes() for place in nodes}
    assert len(readme) == 1


async def test_a_node_whose_key_is_not_trusted_is_a_defect(
    nodes: tuple[Place, Place], tmp_path: Path
) -> None:
    evidence = together(nodes, tmp_path / "both")
    trust = trusted(nodes[:1], tmp_path / "vkeys")
    told = verdict(evidence, "--trust", trust)
    assert told["exit_code"] == 1
    assert any("gw2" in one["object"] for one in told["defects"])
