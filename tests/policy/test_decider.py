# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions from documents to verdicts, with the real parser in its child."""

from __future__ import annotations

import pytest

from gateway.model import Grant, Hop, Identity, Operation, Session, Target
from gateway.policy.documents import PolicyError, PolicySet, parse
from gateway.proxy.analyst import Analyst
from gateway.proxy.decider import DeciderPolicy

TEXT = """policy: p
match: {targets: [shop], groups: [agents]}
rules:
  - id: read
    allow: {sql: {kinds: [read], reads: ["public.*"]}}
  - id: orders
    allow: {sql: {kinds: [insert, delete], writes: ["public.orders"], reads: ["public.*"]}}
  - id: no-unfiltered
    deny: {sql: {unfiltered_write: true}}
"""


def decider(analyst, grant=None, text=TEXT):
    grant = grant or Grant("g", Identity("i", "alice"), ("agents",))
    session = Session("s", 1, grant, Target("shop", "postgresql", "h", 1), "app", "shop", "c")
    return DeciderPolicy(PolicySet((parse(text, "p.yaml"),)), analyst).for_session(session)


def asked(text, *settings):
    return Operation(1, "query", "sql", text, 0, 1, settings)


CASES = [
    ("select * from orders", "allow"),
    ("select 1", "allow"),
    ("begin", "allow"),
    ("select * from pg_class", "allow"),
    ("select rolpassword from pg_authid", "deny"),
    ("select * from other.orders", "deny"),
    ("select pg_read_file('/etc/passwd')", "deny"),
    ("insert into orders values (1)", "allow"),
    ("insert into customers values (1)", "deny"),
    ("delete from orders", "deny"),
    ("delete from orders where id = 1", "allow"),
    ("with x as (delete from customers where a = 1 returning *) select * from x", "deny"),
    ("with t as (select * from other.t) select * from t", "deny"),
    ("explain analyze delete from customers where a = 1", "deny"),
    ("select 1; drop table orders", "deny"),
    ("/* x */ DROP/**/TABLE orders", "deny"),
    ("copy orders to program 'sh'", "deny"),
    ("do $$ begin end $$", "deny"),
    ("set role postgres", "deny"),
    ("select set_config('role', 'postgres', false)", "deny"),
    ("set application_name = 'x'", "allow"),
    ("execute nobody", "deny"),
    ("selec", "deny"),
    ("select " + "+".join(["1"] * 30000), None),
    ("select * from orders", "allow"),
]


async def test_each_text_gets_its_verdict_and_a_killer_harms_no_other():
    analyst = Analyst()
    try:
        policy = decider(analyst)
        for text, verdict in CASES:
            decision = await policy.decide(asked(text), lambda name: None)
            assert verdict in (None, decision.verdict.value), (text[:80], decision)
    finally:
        await analyst.close()


async def test_unknown_search_path_names_facts_narrowing_and_records():
    analyst = Analyst()
    try:
        policy = decider(analyst)
        lost = asked("select * from orders", ("search_path", ""))
        assert (await policy.decide(lost, lambda n: None)).verdict == "deny"
        run = asked("execute q")
        assert (await policy.decide(run, lambda n: "select * from orders")).verdict == "allow"
        assert (await policy.decide(run, lambda n: "drop table orders")).verdict == "deny"
        secret = asked("select 'hunter2' from orders -- hunter2")
        decision = await policy.decide(secret, lambda n: None)
        assert b"hunter2" not in decision.record
        assert policy.decide_now(secret) is decision
        broken = await policy.decide(asked("select 'a' hunter2 hunter2"), lambda n: None)
        assert broken.verdict == "deny" and b"hunter2" not in broken.record
        details = [{"type": "trailgate", "targets": ["shop"], "sql": {"reads": ["public.x"]}}]
        child = Grant(
            "g",
            Identity("i", "alice"),
            ("agents",),
            (Hop("reader"),),
            ({"authorization_details": details},),
        )
        narrowed = decider(analyst, child)
        assert (await narrowed.decide(secret, lambda n: None)).verdict == "deny"
        assert (await narrowed.decide(asked("select * from x"), lambda n: None)).verdict == "allow"
    finally:
        await analyst.close()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "kinds: [read]",
            "kindes: [read]",
            "p.yaml:5: unknown key `kindes`, did you mean `kinds`?",
        ),
        (
            "deny: {sql",
            "approve: {sql",
            "p.yaml:9: rule `no-unfiltered`: this version does not have `approve`",
        ),
        ("id: orders", "id: read", "p.yaml:6: rule id `read` is given twice"),
    ],
)
def test_a_mistake_is_told_at_its_line(old, new, says):
    with pytest.raises(PolicyError) as caught:
        parse(TEXT.replace(old, new, 1), "p.yaml")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("failures", "allowed"),
    [
        (["best_effort"], True),
        (["best_effort", "best_effort"], True),
        (["best_effort", "close"], False),
        (["best_effort", None], False),
        ([None], False),
    ],
)
def test_gaps_are_allowed_where_every_document_that_matches_says_so(failures, allowed):
    documents = []
    for number, failure in enumerate(failures):
        line = f"on_record_failure: {failure}\n" if failure else ""
        text = TEXT.replace("policy: p\n", f"policy: p{number}\n{line}")
        documents.append(parse(text, f"{number}.yaml"))
    documents.append(parse(TEXT.replace("shop", "stock"), "elsewhere.yaml"))
    grant = Grant("g", Identity("i", "alice"), ("agents",))
    policy = DeciderPolicy(PolicySet(tuple(documents)), Analyst())
    for target, expected in (("shop", allowed), ("stock", False), ("nowhere", False)):
        session = Session("s", 1, grant, Target(target, "postgresql", "h", 1), "app", "shop", "c")
        assert policy.gaps_allowed(session) is expected
