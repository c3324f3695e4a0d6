# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided once for a shape holds for every text of that shape, and no other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.policy.languages.sql.parse import analyse
from gateway.proxy.analyst import Analyst
from gateway.proxy.shapes import MOST_TEXT, shape_of
from tests.examples import examples

POLICY = """\
policy: shapes
rules:
  - id: rows
    allow: {sql: {kinds: [select, insert, update, delete], functions: [lower, count, set_config]}}
  - id: bounded
    deny: {sql: {no_limit: true}}
  - id: filtered
    deny: {sql: {unfiltered_write: true}}
"""
TEMPLATES = [
    "select a from t where b = {} limit {}",
    "select a from t limit {}",
    "select a from t where b = {} fetch first {} rows only",
    "select a, {} as b from t where c in ({}, {}) limit {}",
    "update t set a = {} where {}",
    "update t set a = {} where b = {}",
    "delete from t where {} = {}",
    "delete from t where a = {}",
    "insert into t values ({}, {}), ({}, {})",
    "select set_config({}, {}, {})",
    "select set_config({}, {}, {}) from t limit {}",
    "select lower({}) where {} limit {}",
    "select query_to_xml({}, true, true, {}) limit {}",
    "select a from t where b = {}; select {}",
    "set search_path = {}",
]
CONSTANTS = [
    *("1", "-5", "0", "null", "NULL", "true", "false", "'x'", "'it''s'", "E'\\n'", "1.5e3"),
    *("'role'", "'search_path'", "'work_mem'", "'limit'", "'null'", "$$drop table t$$", "x'1f'"),
]


def texts() -> st.SearchStrategy[str]:
    def filled(template: str) -> st.SearchStrategy[str]:
        holes = template.count("{}")
        constants = st.lists(st.sampled_from(CONSTANTS), min_size=holes, max_size=holes)
        return constants.map(lambda chosen: template.format(*chosen))

    return st.sampled_from(TEMPLATES).flatmap(filled)


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(texts(), min_size=2, max_size=12))
async def test_a_decision_by_shape_is_the_fresh_decision(asked, session, many: list[str]) -> None:
    warm = session(POLICY, parser=InProcess())
    for text in many:
        kept = warm.decide_now(asked(text)) or await warm.decide(asked(text), lambda name: None)
        fresh = await session(POLICY, parser=InProcess()).decide(asked(text), lambda name: None)
        assert (kept.verdict, kept.rule, kept.reason) == (fresh.verdict, fresh.rule, fresh.reason)
        assert kept.declares == fresh.declares


class InProcess:
    """The parser without a child and without a cache."""

    async def analyse(self, text: str):
        return analyse(text)


@pytest.mark.parametrize("template", TEMPLATES)
def test_texts_of_one_shape_do_the_same(template: str) -> None:
    found: dict[str, object] = {}
    for chosen in itertools.product(CONSTANTS[:8], repeat=min(2, template.count("{}"))):
        text = template.format(*(chosen * 2)[: template.count("{}")])
        analysis, shape = analyse(text), shape_of(text)
        if shape and analysis.by_shape:
            assert found.setdefault(shape, analysis.units) == analysis.units, text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select a from t", "select b from t"),
        ("select a from t", "select a from u"),
        ("select a as b from t", "select a as c from t"),
        ("select lower('a')", "select upper('a')"),
        ("select 1, 2", "select 1"),
        ('select "A"', "select a"),
        ("select 'a'::text", "select 'a'::int"),
    ],
)
def test_texts_that_differ_in_more_have_other_shapes(one: str, other: str) -> None:
    assert shape_of(one) != shape_of(other)


def test_what_has_no_shape() -> None:
    for text in ("select ((", "select a limit null", "x" * (MOST_TEXT + 1), "select '\ud800'", ""):
        assert shape_of(text) is None or text == "", text
    for text in (
        "set role a",
        "execute p",
        "select 1; select 2",
        "select set_config('a', 'b', true)",
    ):
        assert not analyse(text).by_shape


async def test_constants_cost_no_second_analysis(session, analyst: Analyst, asked) -> None:
    policy = session("policy: p\nrules: [{id: all, allow: {sql: {kinds: [read]}}}]\n")
    first = asked("select a from t where id = 1")
    assert policy.decide_now(first) is None
    decision = await policy.decide(first, lambda name: None)
    for n in range(2, 50):
        assert policy.decide_now(asked(f"select a from t where id = {n}")) is decision
    assert policy.decide_now(asked("select b from t where id = 2")) is None
