# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit who`, `violations`, `rebuild-lake` and `query`: the interface's documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root
from gateway.admin.cli._activities import touched
from tests.record.recorded_story import Story

DOCUMENT = [
    "at", "session", "origin", "chain", "target", "operation", "kind", "object", "access",
    "verdict", "rule", "rows", "proved_to",
]  # fmt: skip


def audit(story: Story, *arguments: str) -> Result:
    return CliRunner().invoke(root, ["audit", *arguments, "--data", str(story.data)])


def told(story: Story, *arguments: str) -> Any:
    result = audit(story, *arguments, "-o", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "data").shipped()


def test_who_prints_the_document_of_the_interface(story: Story) -> None:
    found = told(story, "who")
    assert all(list(one) == DOCUMENT for one in found)
    reader = [one for one in found if one["session"] == story.reader.id]
    assert [one["verdict"] for one in reader] == ["allow", "deny"]
    assert reader[0]["chain"] == ["alice", "boss", "reader"] and reader[0]["rows"] == 2
    assert {one["session"] for one in found} == {story.reader.id, story.writer.id}


def test_who_is_narrowed(story: Story) -> None:
    assert {one["session"] for one in told(story, "who", "--session", story.writer.id[:8])} == {
        story.writer.id
    }
    day = told(story, "who")[0]["at"][:10]
    assert told(story, "who", "--day", day) and not told(story, "who", "--day", "1999-01-01")
    assert audit(story, "who", "--day", "yesterday").exit_code == 2
    assert told(story, "who", "--table", "nothing") == []


def test_violations_are_what_was_denied(story: Story) -> None:
    (denied,) = told(story, "violations")
    assert list(denied) == DOCUMENT
    assert (denied["session"], denied["verdict"]) == (story.reader.id, "deny")
    assert told(story, "violations", "--until", "1999-01-01") == []
    assert told(story, "violations", "--since", denied["at"]) == [denied]


def test_evidence_with_a_defect_proves_nothing(story: Story) -> None:
    """The story's frames are counted wrongly in a leaf: the verifier names it."""
    verdict = CliRunner().invoke(root, ["verify", str(story.data), "-o", "json"])
    assert json.loads(verdict.stdout)["defects"]
    assert [one["proved_to"] for one in told(story, "who")] == [None, None, None]


def test_a_lake_has_every_operation_and_answers_again_alike(story: Story, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert audit(story, "rebuild-lake", "--to", str(lake)).exit_code == 0
    sql = "select session, operation, kind, verdict, rows from activity where class_uid = 6005"
    runner = ["query", f"{sql} order by all", "--lake", str(lake)]
    first = told(story, *runner)
    assert list(first) == ["columns", "rows", "proved_to"]
    assert len(first["rows"]) == len(
        {(one["session"], one["operation"]) for one in told(story, "who")}
    )
    assert audit(story, "rebuild-lake", "--to", str(lake)).exit_code == 0
    assert told(story, *runner) == first == told(story, "query", f"{sql} order by all")


def test_a_query_prints_in_every_form(story: Story) -> None:
    sql = "select count(*) as n, max(time) as t from activity where class_uid = 6005"
    assert audit(story, "query", sql, "-o", "csv").stdout.startswith("n,t\n3,2")
    assert json.loads(audit(story, "query", sql, "-o", "jsonl").stdout)["n"] == 3
    assert audit(story, "query", sql).stdout.startswith("n  t")
    wrong = audit(story, "query", "select nothing from activity")
    assert wrong.exit_code == 2 and "describe activity" in wrong.stderr.lower()
    for nothing in ("", "/* only a comment */"):
        empty = audit(story, "query", nothing)
        assert empty.exit_code == 2 and "no statement" in empty.stderr


def test_objects_are_told_once_with_their_access() -> None:
    one = {"kind": "insert", "reads": ["a", "b"], "writes": ["a"], "functions": ["now"]}
    assert touched({"statements": [one, one, "odd"]}) == [
        {"name": "a", "access": "write"},
        {"name": "a", "access": "read"},
        {"name": "b", "access": "read"},
        {"name": "now", "access": "call"},
    ]
