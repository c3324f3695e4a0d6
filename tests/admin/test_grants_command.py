# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate grants tree|list|revoke`."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
def family(api: Any) -> dict[str, Any]:
    """alice - lead - (reader, writer), of a login made for the test."""
    alice = api.sign("family", claims={"name": "Al\u200fice"})
    lead = api.exchange(alice, agent_name="lead")
    reader = api.exchange(lead["access_token"], agent_name="reader")
    writer = api.exchange(lead["access_token"], agent_name="writer", lease="60")
    return {"alice": alice, "lead": lead, "reader": reader, "writer": writer}


def test_the_tree_is_nested_as_it_was_handed_down(api: Any, family: dict[str, Any]) -> None:
    token = family["lead"]["access_token"]
    answer = api.run("grants", "tree", "-o", "json", TRAILGATE_TOKEN=token)
    (lead,) = json.loads(answer.stdout)
    assert (lead["actor"], lead["proved"], lead["grant"]) == (
        "lead",
        False,
        family["lead"]["grant"],
    )
    assert [child["actor"] for child in lead["children"]] == ["reader", "writer"]
    assert lead["children"][1]["lease_until"].endswith("Z")
    assert answer.stdout.count("\n") == 1


def test_the_tree_for_a_person_shows_what_is_asserted(api: Any, family: dict[str, Any]) -> None:
    lines = api.run("grants", "tree", TRAILGATE_TOKEN=family["alice"]).stdout.splitlines()
    branch = lines[[n for n, line in enumerate(lines) if family["lead"]["grant"] in line][0] :][:3]
    assert [len(line) - len(line.lstrip()) for line in branch] == [2, 4, 4]
    assert all("live, asserted" in line for line in branch)
    assert "lease until" in branch[2] and "lease" not in branch[1]
    assert "\u200f" not in "".join(lines)


def test_the_list_has_one_line_a_grant_and_can_be_filtered(
    api: Any, family: dict[str, Any]
) -> None:
    token = family["lead"]["access_token"]
    words = ("grants", "list", "-o", "jsonl")
    rows = [json.loads(line) for line in api.run(*words, TRAILGATE_TOKEN=token).stdout.splitlines()]
    assert [row["actor"] for row in rows] == ["lead", "reader", "writer"]
    assert all("children" not in row and row["state"] == "live" for row in rows)
    api.run("grants", "revoke", family["reader"]["grant"], TRAILGATE_TOKEN=token)
    words = ("grants", "list", "--state", "revoked", "-o", "json")
    (gone,) = json.loads(api.run(*words, TRAILGATE_TOKEN=token).stdout)
    assert gone["grant"] == family["reader"]["grant"]
    assert gone["revoked"].endswith("Z") and gone["revoked_by"].endswith("/lead")
    table = api.run("grants", "list", TRAILGATE_TOKEN=token).stdout.splitlines()
    assert table[0].split() == ["GRANT", "CHAIN", "STATE", "EXPIRES", "SESSIONS"]
    assert len(table) == 4


def test_the_admin_sees_every_tree(api: Any, family: dict[str, Any]) -> None:
    answer = api.run("grants", "list", "--data", str(api.data), "-o", "json")
    assert family["writer"]["grant"] in {row["grant"] for row in json.loads(answer.stdout)}


def test_revoking_ends_what_is_below(api: Any, family: dict[str, Any]) -> None:
    words = ("grants", "revoke", family["lead"]["grant"])
    answer = api.run(*words, "-o", "json", TRAILGATE_TOKEN=family["alice"])
    below = {family[name]["grant"] for name in ("lead", "reader", "writer")}
    assert set(json.loads(answer.stdout)["revoked"]) == below
    assert not api.active(family["reader"]["access_token"])
    assert api.run(*words, TRAILGATE_TOKEN=family["alice"]).stdout == "revoked: 0 grants\n"


def test_what_may_not_be_revoked_is_said(api: Any, family: dict[str, Any]) -> None:
    mine = family["reader"]["access_token"]
    answer = api.run("grants", "revoke", family["writer"]["grant"], TRAILGATE_TOKEN=mine)
    assert answer.returncode == 1
    assert "no grant below yours" in answer.stderr and "grants list" in answer.stderr
    assert api.run("grants", "revoke", "../token", TRAILGATE_TOKEN=mine).returncode == 2
    assert api.run("grants", "list").returncode == 1
