# SPDX-License-Identifier: GPL-3.0-or-later
"""A cached decision is the decision that would be made afresh, whatever happened in between."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.policy.documents import PolicySet, parse
from gateway.policy.languages.sql.analysis import Analysis, from_plain, to_plain
from gateway.policy.languages.sql.parse import analyse
from tests.examples import examples

READ = """policy: p
rules:
  - {id: r, allow: {sql: {kinds: [read, set_role], reads: ["public.*"]}}}
  - {id: w, allow: {sql: {kinds: [insert], writes: [public.a]}}}
  - {id: d, deny: {sql: {reads: [public.secret]}}}
"""
OTHER = READ.replace("public.*", "other.*")
# Texts that a fingerprint would take for one (security.md 36), and some that differ.
TEXTS = [
    *("set role a", "set role b", "execute a", "execute b", "do 'x'", "do 'y'"),
    *("select * from a", "select * from secret", "select 1 as x", "select 1 as y"),
    *("grant select on a to b", "grant select on b to a", "set search_path = a", "begin"),
    *("insert into a values (1)", "insert into b values (1)", "select f()", "selec"),
    *("set search_path = other; select * from a", "reset search_path", "fetch all from c"),
]
PATHS = [None, "public", "other", "", "other, public", "a, pg_catalog"]
FACTS = [None, "select * from a", "select * from secret", "do 'x'"]
steps = st.lists(
    st.tuples(
        st.sampled_from(TEXTS), st.sampled_from(PATHS), st.sampled_from(FACTS), st.booleans()
    ),
    min_size=1,
    max_size=25,
)


class Here:
    """The parser without its process."""

    async def analyse(self, text: str) -> Analysis:
        return from_plain(to_plain(analyse(text)))


def told(decision):
    return (decision.verdict, decision.rule, decision.reason, decision.declares, decision.record)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=list(HealthCheck))
@given(steps)
async def test_cached_is_fresh(session, asked, found):
    cached = session(READ, parser=Here())
    began = asked("select 0")
    await cached.decide(began, lambda name: None)
    for text, path, fact, swap in found:
        if swap:
            text_now = OTHER if cached._policy.policies.documents[0].version == V_READ else READ
            cached._policy.swap(PolicySet((parse(text_now, "p.yaml"),)))
        operation = asked(text, *(() if path is None else (("search_path", path),)))
        first = cached.decide_now(operation)
        if first is None:
            first = await cached.decide(operation, lambda name, fact=fact: fact)
        fresh = cached._policy.for_session(cached._session)
        await fresh.decide(began, lambda name: None)
        fresh._known.clear()
        assert told(first) == told(await fresh.decide(operation, lambda name, fact=fact: fact))


V_READ = parse(READ, "p.yaml").version


async def test_what_depends_on_facts_or_failed_is_not_cached(session, asked):
    policy = session(READ)
    for text in ("execute q", "selec"):
        await policy.decide(asked(text), lambda name: "select 1")
        assert policy.decide_now(asked(text)) is None
    await policy.decide(asked("select 1"), lambda name: None)
    assert policy.decide_now(asked("select 1")) is not None
    assert policy.decide_now(asked("select 1", ("role", "x"))) is None


async def test_a_sessions_cache_is_bounded(session, asked):
    policy = session(READ, parser=Here())
    for number in range(300):
        await policy.decide(asked(f"select '{number:08}{'x' * 8000}'"), lambda name: None)
    assert policy._size <= 512 << 10
    assert policy._size == sum(
        len(key[0]) + len(decision.record) for key, decision in policy._known.items()
    )
