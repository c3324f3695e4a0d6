# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts made to break the parser: denied, and nobody else is affected."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest

from gateway.policy.languages.sql.parse import analyse
from gateway.proxy.analyst import Analyst

DOCUMENT = "policy: p\nrules:\n  - {id: all, allow: {sql: {}}}\n"
HOSTILE = {
    "a sum of 300,000 terms": "select " + "+".join(["1"] * 300_000),
    "parentheses": "select " + "(" * 50_000 + "1" + ")" * 50_000,
    "subqueries": "select " + "(select " * 20_000 + "1" + ")" * 20_000,
    "unions": " union ".join(["select 1"] * 60_000),
    "a case in a case": "select " + "case when a then " * 20_000 + "1" + " else 2 end" * 20_000,
    "not not": "select " + "not " * 100_000 + "true",
    "arrays": "select " + "array[" * 30_000 + "1" + "]" * 30_000,
    "16 MiB": "select '" + "x" * (16 << 20) + "'",
    "just over 1 MiB of bytes": "select '" + "é" * (1 << 19) + "'",
    "NUL": "select 1\0; drop table t",
    "a lone surrogate": "select '\ud800'",
    "an open comment": "select 1 /*",
    "an open quote": "select 'x",
    "an open dollar quote": "select $x$ y",
    "no Unicode escape": "select U&'\\zzzz'",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_text_is_denied_and_the_next_one_served(name, session, asked):
    policy = session(DOCUMENT)
    decision = await policy.decide(asked(HOSTILE[name]), lambda fact: None)
    assert (decision.verdict, decision.rule) == ("deny", "unanalysable")
    assert len(decision.record) < 1000
    after = await policy.decide(asked("select 1"), lambda fact: None)
    assert after.verdict == "allow"


async def test_30000_terms_are_denied_or_understood_but_harm_nobody(session, asked):
    policy = session(DOCUMENT)
    await policy.decide(asked("select " + "+".join(["1"] * 30_000)), lambda fact: None)
    assert (await policy.decide(asked("select 2"), lambda fact: None)).verdict == "allow"


async def test_text_that_could_not_be_decoded_is_denied(session, asked):
    decision = await session(DOCUMENT).decide(asked(None), lambda fact: None)
    assert (decision.verdict, decision.rule) == ("deny", "unanalysable")


async def test_others_are_served_while_killers_kill(analyst):
    await analyst.start()
    killer = HOSTILE["a case in a case"]
    answers = await asyncio.gather(
        *(analyst.analyse(killer if i % 4 == 0 else f"select {i}") for i in range(40))
    )
    assert [bool(a.problem) for a in answers] == [i % 4 == 0 for i in range(40)]


async def test_a_child_killed_from_outside_is_replaced(analyst):
    await analyst.start()
    for child in analyst._all:
        child._process.kill()
        await child._process.wait()
    assert (await analyst.analyse("select 1")).problem == ""


async def test_a_text_that_takes_too_long_is_given_up():
    analyst = Analyst(seconds=0.0)
    try:
        assert (await analyst.analyse("select 1")).problem == "the analysis took too long"
    finally:
        await analyst.close()


async def test_an_abandoned_analysis_does_not_answer_for_the_next(analyst):
    await analyst.start()
    big = "select " + ",".join(f"f{i}()" for i in range(20_000))
    task = asyncio.ensure_future(analyst.analyse(big))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for number in range(4):
        found = await analyst.analyse(f"select * from t{number}")
        assert [str(name) for name in found.units[0].reads] == [f"t{number}"]


def seen(pid):
    """A process's limits and the names in its environment, as the kernel tells them."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    limits = {line[:26].strip(): line[26:].split()[0] for line in lines}
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return limits, {entry.split(b"=")[0] for entry in entries if entry}


async def test_the_child_keeps_to_its_limits(analyst):
    await analyst.start()
    (process, *_) = (child._process for child in analyst._all)
    limits, names = seen(process.pid)
    assert int(limits["Max address space"]) == 1 << 30
    assert int(limits["Max cpu time"]) < 10
    assert (limits["Max core file size"], limits["Max file size"]) == ("0", "0")
    assert names == {b"PYTHONPATH", b"LC_ALL"}


async def test_a_child_refuses_a_text_that_is_far_too_long(analyst):
    await analyst.start()
    process = analyst._all[0]._process
    process.stdin.write(struct.pack(">I", 1 << 30))
    assert await process.wait() == 0


async def test_what_is_cached_is_bounded():
    analyst = Analyst(children=1)
    try:
        text = "select '" + "x" * 16_000 + "'"
        answer = analyse(text)
        for number in range(1200):
            analyst._keep(f"{number:04}{text}", answer)
        assert analyst._size <= 8 << 20
        assert sum(map(len, analyst._known)) == analyst._size
        assert f"0000{text}" not in analyst._known
    finally:
        await analyst.close()
