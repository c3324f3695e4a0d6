# SPDX-License-Identifier: GPL-3.0-or-later
"""trailgate policy lint, test and explain, as a script sees them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from gateway.admin.cli.policy import COMMAND

TEXT = """policy: p
match: {targets: [shop], groups: [agents]}
rules:
  - id: read
    allow: {sql: {kinds: [read], reads: ["public.*"]}}
  - id: no-drop
    deny: {sql: {kinds: [drop]}}
    reason: Nothing is dropped.
tests:
  - {as: {groups: [agents]}, target: shop, sql: "select 1", expect: allow}
  - {as: {groups: [agents]}, target: shop, sql: "drop table t", expect: deny, rule: no-drop}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(TEXT)
    return str(path)


def run(*arguments, stdin=None):
    return CliRunner().invoke(COMMAND, [str(a) for a in arguments], input=stdin)


def test_lint_of_sound_documents(path):
    answer = run("lint", path)
    assert (answer.exit_code, answer.stdout) == (0, f"{path}: ok (p)\n")
    answer = run("lint", path, "-o", "json")
    assert json.loads(answer.stdout) == {"ok": True, "policies": ["p"], "findings": []}


def test_lint_names_file_line_and_the_nearest_key(path, tmp_path):
    (tmp_path / "p.yaml").write_text(TEXT.replace("kinds: [drop]", "kind: [drop]"))
    answer = run("lint", tmp_path)
    assert answer.exit_code == 1
    assert answer.stdout == f"{path}:7: unknown key `kind`, did you mean `kinds`?\n"
    answer = run("lint", tmp_path, "-o", "json")
    detail = "unknown key `kind`, did you mean `kinds`?"
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["findings"] == [{"path": path, "line": 7, "detail": detail}]


def test_test_runs_the_documents_tests(path, tmp_path):
    answer = run("test", path)
    assert answer.exit_code == 0
    assert answer.stdout.splitlines() == [
        f"ok    {path}:10: allow by read",
        f"ok    {path}:11: deny by no-drop",
        "2 passed, 0 failed",
    ]
    wrong = TEXT.replace("rule: no-drop", "rule: read").replace("expect: allow", "expect: deny")
    (tmp_path / "p.yaml").write_text(wrong)
    answer = run("test", path)
    assert answer.exit_code == 1
    assert answer.stdout.splitlines() == [
        f"FAIL  {path}:10: expected deny, got allow by read",
        f"FAIL  {path}:11: expected deny by read, got deny by no-drop (Nothing is dropped.)",
        "0 passed, 2 failed",
    ]
    results = json.loads(run("test", path, "-o", "json").stdout)
    assert [(r["ok"], r["line"]) for r in results] == [(False, 10), (False, 11)]
    assert results[0]["expected"] == {"verdict": "deny", "rule": None}


def test_test_of_a_document_with_mistakes_fails_with_its_line(path, tmp_path):
    (tmp_path / "p.yaml").write_text(TEXT.replace("rules:", "rule:"))
    answer = run("test", path)
    assert answer.exit_code == 1
    assert f"{path}:3: unknown key `rule`, did you mean `rules`?" in answer.stderr


def test_explain_prints_the_document_of_interfaces_md(path):
    who = json.dumps({"groups": ["agents"], "chain": ["alice", "reader"]})
    sql = "select lower(name) from customers; drop table t"
    one = run(
        "explain", "--policy", path, "--as", who, "--target", "shop", "--sql", sql, "-o", "json"
    )
    assert one.exit_code == 0
    answer = json.loads(one.stdout)
    version = answer["policies"][0].pop("version")
    assert len(version) == 64
    assert answer == {
        "id": None,
        "verdict": "deny",
        "rules": ["p/no-drop"],
        "reason": "Nothing is dropped.",
        "masks": [],
        "limits": [],
        "approve": None,
        "policies": [{"name": "p"}],
        "analysis": {
            "statements": [
                {"kind": "select", "reads": ["customers"], "writes": [], "functions": ["lower"]},
                {"kind": "drop", "reads": [], "writes": ["t"], "functions": []},
            ]
        },
    }


def test_explain_for_a_person(path):
    who = '{"groups": ["agents"]}'
    answer = run(
        "explain", "--policy", path, "--as", who, "--target", "shop", "--sql", "select * from t"
    )
    assert answer.stdout.splitlines()[0] == "allow"
    assert "  rule p/read" in answer.stdout
    assert "  statement select; reads t" in answer.stdout


def test_explain_answers_a_line_for_a_line(path):
    asked = [
        {"id": 1, "target": "shop", "as": {"groups": ["agents"]}, "sql": "select * from t"},
        {
            "id": 2,
            "target": "shop",
            "as": {"groups": ["agents"]},
            "sql": "select * from t",
            "search_path": "x",
        },
        {
            "id": "c",
            "target": "other",
            "as": {"groups": ["agents"]},
            "sql": "select 1",
            "parameters": [],
        },
        {"id": 4, "target": "shop", "sql": "select 1"},
        {"id": 5, "target": "shop", "as": {"groups": ["agents"]}, "sql": "selec"},
    ]
    answer = run("explain", "--policy", path, "--stdin", stdin="\n".join(map(json.dumps, asked)))
    assert answer.exit_code == 0
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [(line["id"], line["verdict"]) for line in lines] == [
        *((1, "allow"), (2, "deny"), ("c", "deny"), (4, "deny"), (5, "deny")),
    ]
    assert lines[4]["rules"] == ["p/unanalysable"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "standard input:2: not JSON"),
        ("[]", "standard input:2: not an operation"),
        ('{"target": "shop", "exec": "ls"}', "standard input:2: this version explains `sql` only"),
        ('{"target": "shop", "sgl": "x"}', "standard input:2: unknown key `sgl`"),
        ('{"as": {"group": []}}', "standard input:2: unknown key `group`"),
        ('{"as": "alice"}', "standard input:2: not an operation"),
        ('{"sql": 1}', "standard input:2: target, sql and search_path are texts"),
    ],
)
def test_explain_names_the_line_that_is_no_operation(path, line, says):
    sound = '{"id": 1, "target": "shop", "sql": "select 1"}\n'
    answer = run("explain", "--policy", path, "--stdin", stdin=sound + line)
    assert answer.exit_code == 2
    assert says in answer.stderr
    assert len(answer.stdout.splitlines()) == 1


def test_explain_needs_an_operation_and_sound_documents(path, tmp_path):
    assert run("explain", "--policy", path).exit_code == 2
    answer = run("explain", "--policy", path, "--as", "{", "--target", "shop", "--sql", "select 1")
    assert answer.exit_code == 2 and "--as: not JSON" in answer.stderr
    (tmp_path / "p.yaml").write_text("policy: p\n")
    answer = run("explain", "--policy", path, "--target", "shop", "--sql", "select 1")
    assert answer.exit_code == 1 and f"{path}:1: a policy has" in answer.stderr
