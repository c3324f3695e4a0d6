# SPDX-License-Identifier: GPL-3.0-or-later
"""Every mistake of a document at its line, and what later versions have by its name."""

from __future__ import annotations

import pytest

from gateway.policy.documents import PolicyError, PolicySet, parse

TEXT = """policy: p
match: {targets: [shop], groups: [agents]}
rules:
  - id: read
    allow: {sql: {kinds: [read], reads: ["public.*"]}}
  - id: no-drop
    deny: {sql: {kinds: [drop]}}
tests:
  - {target: shop, sql: "select 1", expect: deny}
"""

MISTAKES = [
    ("kinds: [read]", "kindes: [read]", "5: unknown key `kindes`, did you mean `kinds`?"),
    ("kinds: [read]", "kinds: [reed]", "5: unknown kind `reed`, did you mean `read`?"),
    ("kinds: [read]", "kinds: read", "5: kinds must be a list of words, at least one"),
    ("kinds: [read]", "kinds: []", "5: kinds must be a list of words, at least one"),
    ('"public.*"', '"db.public.*"', "5: reads: `db.public.*` is neither `schema.name` nor `name`"),
    ("id: no-drop", "id: read", "6: rule id `read` is given twice"),
    ("deny:", "denny:", "7: unknown key `denny`, did you mean `deny`?"),
    ("policy: p", "policy:", "1: policy must be a word"),
    ("policy: p", "policy: p\nmode: observed", "2: mode must be enforce or observe, did you mean"),
    ("policy: p", "policy: p\nstrict: yes", "2: strict must be true or false"),
    ("policy: p", "policy: p\npolicy: q", "2: `policy` is given twice"),
    ("policy: p", "policy: &a p\ndescription: *a", "2: aliases are not taken"),
    ("policy: p", "policy: p\non_record_failure: go_on", "2: on_record_failure must be close or"),
    ("policy: p", "policy: p\nisolation: uid", "2: this version does not have `isolation`"),
    ("groups: [agents]", "groups: []", "2: groups must be a list of words, at least one"),
    ("groups: [agents]", "labels: x", "2: labels must be a mapping, at least one"),
    ("groups: [agents]", "kinds: [robot]", "2: kinds must be person or workload"),
    ("groups: [agents]", "actor: {}", "2: actor must say groups"),
    ("deny: {sql", "deny: {shell", "7: rule `no-drop`: this version does not have the language"),
    ("deny: {sql: {kinds: [drop]}}", "deny: {}", "7: deny must name a language"),
    ("kinds: [drop]", "no_limit: false", "7: `no_limit` can only be `true`, and only in a deny"),
    ("kinds: [read]", "dynamic: true", "5: `dynamic` can only be `true`, and only in a deny"),
    ("deny: {sql: {kinds: [drop]}}", "reason: x", "6: a rule has an id and exactly one of"),
    ("kinds: [drop]}}", "kinds: [drop]}}\n    when: 'a b'", "8: when: Failed to parse"),
    ("kinds: [drop]}}", "kinds: [drop]}}\n    when: 'grups == []'", "8: when: Undefined variable"),
    (
        "kinds: [drop]}}",
        "kinds: [drop]}}\n    at: {days: [sunday]}",
        "8: at: `sunday` is not a day",
    ),
    ("kinds: [drop]}}", "kinds: [drop]}}\n    at: {zone: Mars/X}", "8: at: "),
    ("expect: deny", "expect: denied", "9: expect must be allow or deny or would_deny, did you"),
    ("expect: deny", "expects: deny", "9: unknown key `expects`, did you mean `expect`?"),
    ("expect: deny", "expect: allow, masks: [x]", "9: this version does not have `masks`"),
    ("{target: shop,", "{as: {group: [x]}, target: shop,", "9: unknown key `group`, did you mean"),
    ("rules:", "rules: [", "4: "),
]


@pytest.mark.parametrize(("old", "new", "says"), MISTAKES, ids=[new for _, new, _ in MISTAKES])
def test_a_mistake_is_told_at_its_line(old, new, says):
    with pytest.raises(PolicyError) as caught:
        parse(TEXT.replace(old, new, 1), "p.yaml")
    assert any(line.startswith("p.yaml:" + says) for line in str(caught.value).splitlines()), caught


@pytest.mark.parametrize(
    "rule",
    [
        "approve: {sql: {kinds: [delete]}, by: {groups: [dba]}}",
        "mask: {columns: [public.t.email]}",
        "limit: {rows: 10}",
    ],
)
def test_an_action_of_later_versions_is_refused_by_rule_and_name(rule):
    action = rule.split(":")[0]
    with pytest.raises(PolicyError) as caught:
        parse(TEXT.replace("deny: {sql: {kinds: [drop]}}", rule), "p.yaml")
    what = f"p.yaml:7: rule `no-drop`: this version does not have `{action}`; take it out"
    assert str(caught.value) == what


def test_all_mistakes_are_told_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text(TEXT.replace("kinds", "kind"))
    (tmp_path / "b.yaml").write_text(TEXT.replace("expect", "expects"))
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    (tmp_path / "d.yaml").write_text("")
    with pytest.raises(PolicyError) as caught:
        PolicySet.load([tmp_path, tmp_path / "none.yaml"])
    lines = str(caught.value).splitlines()
    places = [line.split(": ")[0].removeprefix(f"{tmp_path}/") for line in lines]
    assert places == [
        *("a.yaml:5", "a.yaml:7", "b.yaml:9", "b.yaml:9"),
        *("c.yaml:1", "d.yaml:1", "none.yaml:1"),
    ]


def test_two_documents_of_one_name_are_refused(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(TEXT)
    with pytest.raises(PolicyError, match="policy `p` is there twice"):
        PolicySet.load([tmp_path])


def test_scalars_are_those_of_yaml_1_2():
    text = TEXT.replace("groups: [agents]", "groups: [on, no, 22:00, 1_000, 0o7, null]")
    groups = parse(text, "p.yaml").match["groups"]
    assert groups == ("on", "no", "22:00", "1_000", "0o7", "null")


@pytest.mark.parametrize(
    "text", ["[" * 5000, "- a", "1", "a: {b: [}", "? [a]\n: b", "\0", "a: !!x b"]
)
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(PolicyError, match=r"^p\.yaml:\d+: "):
        parse(text, "p.yaml")


def test_the_version_is_the_hash_of_the_bytes():
    assert parse(TEXT, "a").version != parse(TEXT + "\n", "a").version
