# SPDX-License-Identifier: GPL-3.0-or-later
"""From documents, identities and texts to verdicts, with the real parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Grant, Hop, Identity, Level, Target
from gateway.policy.decide import Where, judge
from gateway.policy.documents import PolicySet, parse
from gateway.policy.languages.sql.parse import analyse
from gateway.policy.matching import scope_of
from tests.examples import examples

ALL = "policy: all\nrules:\n  - {id: all, allow: {sql: {}}}\n"
READ = 'policy: r\nrules:\n  - {id: r, allow: {sql: {kinds: [read], reads: ["public.*"]}}}\n'
UNKNOWN_PATH = ("search_path", "")


def allow(selector, *rest):
    return f"policy: p\nrules:\n  - {{id: a, allow: {{sql: {selector}}}}}\n" + "".join(
        f"  - {line}\n" for line in rest
    )


@pytest.mark.parametrize(
    ("selector", "text", "answer"),
    [
        # every (object, access) pair, by one or several rules
        ("{kinds: [insert], writes: [public.a]}", "insert into a select * from secret.s", "allow"),
        (
            "{kinds: [insert], writes: [public.a], reads: [public.*]}",
            "insert into a select * from secret.s",
            "deny",
        ),
        ("{kinds: [write], writes: [public.a]}", "update a set i = 1 where i = 2", "allow"),
        (
            "{kinds: [insert], writes: [public.a]}",
            "insert into a values (1) on conflict (i) do update set i = 2",
            "deny",
        ),
        (
            "{kinds: [merge], writes: [public.a]}",
            "merge into a using b on a.i = b.i when matched then delete",
            "deny",
        ),
        ("{kinds: [read]}", "select * from t for update", "deny"),
        ("{kinds: [read, lock]}", "select * from t for update", "allow"),
        # what only a rule that names it allows
        ("{}", "do 'x'", "deny"),
        ("{kinds: [do]}", "do 'x'", "allow"),
        ("{}", "call p()", "deny"),
        ("{}", "set role x", "deny"),
        ("{kinds: [session]}", "set role x", "deny"),
        ("{kinds: [session]}", 'set "ROLE" to x', "deny"),
        ("{kinds: [set_role]}", "set role x", "allow"),
        ("{}", "alter system set x = 1", "deny"),
        ("{}", "copy t from program 'x'", "deny"),
        ("{}", "copy t to '/x'", "deny"),
        ("{}", "select pg_read_file('/x')", "deny"),
        ("{}", "select lo_import('/x')", "deny"),
        ("{}", "select dblink('x', 'y')", "deny"),
        ("{}", "select pg_terminate_backend(1)", "deny"),
        ("{}", "select nextval('s')", "deny"),
        ("{}", "select pg_sleep(1)", "deny"),
        ("{}", "update pg_settings set setting = 'x' where name = 'role'", "deny"),
        ("{}", "select set_config('role', 'x', false)", "deny"),
        ("{}", "select set_config('r' || 'ole', 'x', false)", "deny"),
        ("{}", "select a operator(public.+) b from t", "deny"),
        # functions by name
        ("{functions: [public.f]}", "select public.f()", "allow"),
        ("{functions: [public.f]}", "select f()", "allow"),
        ("{functions: [f]}", "select other.f()", "allow"),
        ("{functions: [public.*]}", "select pg_sleep(1)", "deny"),
        ("{functions: [pg_catalog.nextval]}", "select pg_catalog.nextval('s')", "allow"),
        ("{}", "select public.lower('x')", "deny"),
        # objects that no name can be given to, or that hold others
        ("{kinds: [schema], writes: [public.*]}", "drop schema public cascade", "allow"),
        ("{kinds: [schema], writes: [public.t]}", "drop schema public cascade", "deny"),
        (
            "{kinds: [schema], writes: [public.*]}",
            "create function other.f() returns int language sql as 'x'",
            "deny",
        ),
        (
            "{kinds: [schema], writes: [public.*]}",
            "create cast (int as text) with function f(int)",
            "deny",
        ),
        ("{kinds: [admin], writes: [public.*]}", "create role x", "deny"),
        ("{kinds: [admin]}", "create role x", "allow"),
        (
            "{kinds: [admin], writes: [public.*]}",
            "grant select on all tables in schema other to x",
            "deny",
        ),
        # the catalogue, and its secrets
        ("{reads: [public.*]}", "select * from pg_class", "allow"),
        ("{reads: [public.*]}", "select * from information_schema.tables", "allow"),
        ("{reads: [public.*]}", "select * from pg_authid", "deny"),
        ("{reads: [public.*]}", "select query from pg_stat_activity", "deny"),
        ("{reads: [public.*]}", "select * from pg_catalog.pg_what_comes_later", "deny"),
        # names with dots in them
        ("{reads: [public.*]}", 'select * from "public.x"', "allow"),
        ("{reads: [public.*]}", 'select * from "public.x".t', "deny"),
        ("{reads: [public.*]}", 'select * from public."a.b"', "allow"),
    ],
)
async def test_an_allow_covers_every_pair_or_nothing(verdict, selector, text, answer):
    assert await verdict(allow(selector), text) == answer


@pytest.mark.parametrize(
    ("selector", "text", "denied"),
    [
        (
            "{kinds: [delete]}",
            "with x as (delete from t where i = 1 returning *) select 1 from x",
            True,
        ),
        ("{kinds: [delete]}", "merge into a using b on a.i = b.i when matched then delete", True),
        ("{kinds: [delete]}", "explain delete from t where i = 1", True),
        ("{kinds: [delete]}", "select 1; delete from t where i = 1", True),
        ("{kinds: [delete]}", "select 'delete from t'", False),
        ("{reads: [secret.*]}", "select * from public.t, secret.s", True),
        ("{reads: [secret.*]}", 'select * from secret."a.b"', True),
        ("{reads: [app.t]}", "select * from t", True),  # the login's own schema comes first
        ("{reads: [other.t]}", "select * from t", False),
        ("{writes: [public.t]}", "drop schema public cascade", True),
        ("{writes: [public.t]}", "truncate u, t", True),
        ("{functions: [public.f]}", "select f()", True),
        ("{unfiltered_write: true}", "delete from t where true", True),
        ("{no_limit: true}", "select * from t", True),
        ("{no_limit: true}", "select * from pg_class", False),
        ("{kinds: [select], no_limit: true}", "select * from t limit 5", False),
        ("{}", "select 1", True),
    ],
)
async def test_a_deny_needs_one_hit(verdict, selector, text, denied):
    document = ALL + f"  - {{id: d, deny: {{sql: {selector}}}}}\n"
    assert await verdict(document, text) == ("deny" if denied else "allow")


@pytest.mark.parametrize(
    ("path", "text", "answer"),
    [
        (None, "select * from t", "allow"),
        ("public, secret", "select * from t", "deny"),
        ('"$user", public', "select * from t", "allow"),
        ("secret", "select * from t", "deny"),
        ("secret", "select * from public.t", "allow"),
        ("", "select * from t", "deny"),
        ("", "select * from public.t", "allow"),
        ("secret, pg_catalog", "select * from pg_class", "deny"),
        ("secret, pg_catalog", "select lower('x')", "deny"),
        ("public, pg_catalog", "select * from pg_class", "allow"),
        (None, "set search_path = secret; select * from t", "deny"),
        (None, "set search_path = public; select * from t", "allow"),
        (None, "select set_config('search_path', 'secret', false); select * from t", "deny"),
        ("public", "rollback; select * from t", "deny"),
        (None, "begin; select * from t; commit", "allow"),
        ("secret", "discard all; select * from t", "deny"),
    ],
)
async def test_unqualified_names_are_looked_for_where_the_server_looks(
    verdict, path, text, answer, session
):
    set_path = () if path is None else (("search_path", path),)
    policy = session(READ)
    assert await verdict(policy, "select 1") == "allow"  # the session began with the default
    assert await verdict(policy, text, *set_path) == answer


async def test_what_a_reset_and_a_local_setting_leave_is_declared(session, asked):
    policy = session(READ)

    async def declared(text, *now):
        decision = await policy.decide(asked(text, *now), lambda name: None)
        return [(d.kind, d.name, d.text) for d in decision.declares if d.name == "search_path"]

    assert await declared("reset search_path") == [("setting", "search_path", '"$user", public')]
    # Without a transaction block it does nothing, so that both may be in force.
    local = await declared("set local search_path = x", ("search_path", "y"))
    assert local == [("setting", "search_path", '"x", y')]
    run = asked("execute q")
    decision = await policy.decide(run, lambda n: "select set_config('search_path', 'x', false)")
    assert ("search_path", "x") in [(d.name, d.text) for d in decision.declares]


async def test_what_runs_by_name_is_judged_by_its_text(verdict):
    async def facts_of(text):
        return await verdict(READ, "execute q", facts=lambda name: text)

    assert await facts_of("select * from t") == "allow"
    assert await facts_of("delete from t") == "deny"
    assert await facts_of(None) == "deny"
    assert await facts_of("execute q") == "deny"
    for wrapped in ("explain analyze execute q", "create temp table x as execute q"):
        assert await verdict(ALL, wrapped, facts=lambda name: "do 'x'") == "deny"
    both = "prepare q as select * from t; execute q"
    assert await verdict(READ, both) == "allow"
    assert await verdict(READ, both, facts=lambda name: "drop table t") == "deny"
    assert await verdict(READ, "fetch all from c", facts=lambda name: "select * from t") == "allow"


async def test_strict_takes_the_implicit_allowances_away(verdict):
    strict = "strict: true\n" + READ
    for text in ("begin", "set application_name = 'x'", "select * from pg_class"):
        assert await verdict(READ, text) == "allow"
        assert await verdict(strict, text) == "deny"
    assert await verdict(strict, "select * from t") == "allow"


async def test_nothing_matching_denies(verdict):
    for match in ("targets: [x]", "groups: [x]", "labels: {a: b}", "issuers: [x]", "users: [x]"):
        assert await verdict(f"match: {{{match}}}\n" + ALL, "select 1") == "deny"
    for match in (
        "targets: [sh*]",
        "groups: [ag*]",
        "issuers: [i]",
        "users: [app]",
        "kinds: [person]",
    ):
        assert await verdict(f"match: {{{match}}}\n" + ALL, "select 1") == "allow"


async def test_observing_tells_and_lets_pass_but_weakens_nothing(session, asked):
    observed = "mode: observe\n" + READ.replace("policy: r", "policy: o")

    async def of(*documents):
        policy = session(*documents)
        decision = await policy.decide(asked("delete from t where i = 1"), lambda n: None)
        return decision.verdict.value

    assert await of(observed) == "would_deny"
    assert await of(observed, ALL) == "would_deny"
    assert await of(observed, READ) == "deny"
    assert await of("mode: observe\n" + ALL) == "allow"
    policy = session(observed)
    broken = await policy.decide(asked("selec"), lambda n: None)
    assert broken.verdict == "would_deny" and json.loads(broken.record)["reason"] == "unanalysable"


async def test_a_condition_that_raises_denies(verdict, session, asked):
    rule = "{id: c, deny: {sql: {kinds: [drop]}}, when: 'target.labels.env == \"prod\"'}"
    assert await verdict(allow("{}", rule), "select 1") == "deny"
    safe = rule.replace("target.labels.env", "has(target.labels.env) && target.labels.env")
    assert await verdict(allow("{}", safe), "select 1") == "allow"
    number = "{id: c, deny: {sql: {kinds: [drop]}}, when: 'size(groups)'}"
    assert await verdict(allow("{}", number), "select 1") == "deny"


async def test_time_is_asked_each_time_even_for_a_prefix_that_another_overrules(session, asked):
    now = [1_700_000_000.0]  # a Tuesday, 22:13 UTC
    timed = (
        "policy: hours\nmatch: {groups: [agents]}\nrules:\n  - {id: h, allow: {sql: {}}, "
        "at: {days: [tue], from: '22:00', to: '23:00'}}\n"
    )
    untimed = (
        "policy: actors\nmatch: {actor: {groups: [bots]}}\nrules:\n  - {id: x, allow: {sql: {}}}\n"
    )
    grant = Grant(
        "g", Identity("i", "alice"), ("agents",), (Hop("bot", True),), actor_groups=("bots",)
    )
    policy = session(timed, untimed, grant=grant, clock=lambda: now[0])
    assert (await policy.decide(asked("select 1"), lambda n: None)).verdict == "allow"
    assert policy.decide_now(asked("select 1")) is None
    now[0] += 3600
    assert (await policy.decide(asked("select 1"), lambda n: None)).verdict == "deny"


async def test_the_strictest_durability_of_all_documents_holds(session, asked):
    disk = "durability: disk\nmatch: {groups: [agents]}\n" + ALL.replace("policy: all", "policy: d")
    decision = await session(disk, ALL).decide(asked("select 1"), lambda n: None)
    assert decision.level is Level.DISK


async def test_unanalysable_may_be_named_by_a_rule(session, asked):
    rule = "{id: u, deny: {sql: {unanalysable: true}}, reason: Not read.}"
    policy = session(allow("{}", rule))
    assert (await policy.decide(asked("selec"), lambda n: None)).rule == "u"
    assert (await policy.decide(asked("select 1"), lambda n: None)).verdict == "allow"
    plain = await session(ALL).decide(asked("selec"), lambda n: None)
    assert (plain.verdict, plain.rule) == ("deny", "unanalysable")


KINDS = ["read", "select", "insert", "update", "delete", "write", "schema", "drop"]
OBJECTS = ["public.a", "public.*", "other.*", "a", "*"]
TEXTS = [
    *("select * from a", "select * from other.b", "insert into a values (1)", "drop table a"),
    *("update a set i = 1", "delete from other.b where i = 1", "begin", "select f()"),
    "with x as (delete from a returning *) insert into other.b select * from x",
]
selectors = st.fixed_dictionaries(
    {},
    optional={
        "kinds": st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
        "reads": st.lists(st.sampled_from(OBJECTS), min_size=1, max_size=2),
        "writes": st.lists(st.sampled_from(OBJECTS), min_size=1, max_size=2),
        "functions": st.just(["public.f"]),
    },
)
rules = st.lists(st.tuples(st.sampled_from(["allow", "allow", "deny"]), selectors), max_size=4)
matches = st.sampled_from([{}, {"groups": ["g"]}, {"actor": {"groups": ["bots"]}}])
details = st.none() | st.lists(
    st.fixed_dictionaries({"type": st.just("trailgate"), "sql": selectors}), max_size=2
)


def document(number, match, found):
    lines = [{"id": f"r{i}", action: {"sql": s}} for i, (action, s) in enumerate(found)]
    body = {"policy": f"p{number}", "rules": lines, **({"match": match} if match else {})}
    return parse(json.dumps(body), "p.yaml")


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(matches, rules), min_size=1, max_size=3),
    st.lists(details, min_size=1, max_size=3),
    st.sampled_from(TEXTS),
)
def test_a_child_is_never_allowed_what_an_ancestor_is_denied(found, path, text):
    policies = PolicySet(tuple(document(i, m, r) for i, (m, r) in enumerate(found)))
    target = Target("shop", "postgresql", "h", 1)
    where = Where(target, "app", 0.0, (scope_of(None, "app"),))
    units = analyse(text).units
    entries = [None if d is None else {"authorization_details": d} for d in path]
    passed = []
    for depth in range(len(path) + 1):
        grant = Grant(
            "g",
            Identity("i", "alice"),
            ("g",),
            tuple(Hop(f"h{i}", True) for i in range(depth)),
            tuple(entry for entry in entries[:depth] if entry is not None),
            actor_groups=("bots",) if depth else (),
        )
        passed.append(judge(policies, grant, where, units).verdict.passes)
    assert passed == sorted(passed, reverse=True)


@pytest.mark.parametrize(
    "element",
    [
        {"type": "other", "sql": {}},
        {"type": "trailgate"},
        {"type": "trailgate", "sql": {"limit": 1}},
        {"type": "trailgate", "sql": {"reads": "*"}},
        {"type": "trailgate", "targets": "shop*", "sql": {}},
        {"type": "trailgate", "targets": ["other"], "sql": {}},
        {"type": "trailgate", "actions": ["read"], "sql": {}},
        "trailgate",
    ],
)
async def test_a_narrowing_that_is_not_understood_gives_nothing(verdict, element):
    for entries in ([element], []):
        narrowing = ({"authorization_details": entries},)
        grant = Grant("g", Identity("i", "a"), ("agents",), (Hop("h"),), narrowing)
        assert await verdict(ALL, "select * from t", grant=grant) == "deny"


async def test_scope_and_details_must_both_pass(verdict):
    details = [{"type": "trailgate", "sql": {"reads": ["public.a"]}}]
    for scope, text, answer in (
        (["shop"], "select * from a", "allow"),
        (["shop"], "select * from b", "deny"),
        (["other"], "select * from a", "deny"),
    ):
        narrowing = ({"authorization_details": details, "scope": scope},)
        grant = Grant("g", Identity("i", "a"), ("agents",), (Hop("h"),), narrowing)
        assert await verdict(ALL, text, grant=grant) == answer
