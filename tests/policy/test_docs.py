# SPDX-License-Identifier: GPL-3.0-or-later
"""The page for people who write policy says what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.admin.cli.policy import COMMAND
from gateway.policy import documents
from gateway.policy.documents import parse
from gateway.policy.languages.sql.effects import _GRAVE
from gateway.policy.languages.sql.kinds import ALONE, SETS
from gateway.policy.matching import _SECRET

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text("utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)


def rows(heading):
    table = PAGE.split(heading)[1].split("\n\n")[0]
    return {
        cells[0].strip().strip("`"): cells[1].strip()
        for line in table.splitlines()
        if len(cells := line.strip("|").split("|")) > 1
    }


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_loads(text):
    assert parse(text, "example.yaml").rules


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_runs(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents-on-orders.yaml").write_text(EXAMPLES[0])
    words = shlex.split(line)
    stdin = None
    if words[0] == "echo":
        stdin, words = words[1] + "\n", words[words.index("|") + 1 :]
    assert words[:2] == ["trailgate", "policy"]
    answer = CliRunner().invoke(COMMAND, words[2:], input=stdin)
    assert answer.exit_code == 0, answer.output


def test_there_are_examples_and_commands():
    assert len(EXAMPLES) >= 3 and len(COMMANDS) >= 4


def test_the_kinds_are_those_of_the_code():
    told = {
        name: set(kinds.split(", ")) for name, kinds in rows("| set | kinds |\n|---|---|\n").items()
    }
    assert told.pop("none") == ALONE
    assert told == {name: set(kinds) for name, kinds in SETS.items()}


def test_the_keys_are_those_of_the_code():
    assert set(rows("| key | meaning |\n|---|---|\n")) >= set(documents._TOP)
    assert set(rows("| key of `match` | is compared with |\n|---|---|\n")) == set(documents._MATCH)
    keys = set(rows("| key of a rule | meaning |\n|---|---|\n"))
    assert keys == set(documents._RULE) - {"id", "allow", "deny"}
    assert set(rows("| key | speaks of |\n|---|---|\n")) == set(documents.FLAGS)


def test_the_implicit_allowances_are_those_of_the_code():
    part = PAGE.split("## What any allow includes")[1].split("\n## ")[0]
    for name in (_GRAVE | _SECRET) - {"_pg_user_mappings", "pg_stat_statements"}:
        assert f"`{name}`" in part, name


def test_every_document_of_the_library_is_listed():
    stems = {path.stem for path in (ROOT / "gateway/policy/library").glob("*.yaml")}
    assert set(rows("| document | what it does |\n|---|---|\n")) == stems
