# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns of every answer: where the client sends no Describe we do, and it never sees that."""

from __future__ import annotations

import struct

import pytest

from gateway.protocols.postgresql import wire
from tests.protocols.postgresql.playbook import (
    BOUND,
    FLUSH,
    IN_BLOCK,
    NO_DATA,
    PARSED,
    READY,
    SUSPENDED,
    SYNC,
    Play,
    bind,
    complete,
    error,
    execute,
    parse,
    row,
)

OURS = wire.describe_portal(b"")
COLUMNS = wire.message(
    wire.ROW_DESCRIPTION, b"\0\1n\0" + struct.pack("!IhIhih", 0, 0, 23, 4, -1, 1)
)


def describe(which: bytes, name: bytes = b"") -> bytes:
    return wire.message(wire.DESCRIBE, which + name + b"\0")


def test_a_portal_that_nobody_described_is_described_by_us_once() -> None:
    play = Play()
    said = parse("select 1", "s") + bind("s") + execute() + SYNC
    play.say(said)
    assert play.target == said and play.own == OURS
    play.answer(PARSED + BOUND + COLUMNS + row() + complete("SELECT 1") + READY)
    assert play.client == PARSED + BOUND + row() + complete("SELECT 1") + READY
    assert play.kept == COLUMNS
    play.forget()
    play.say(bind("s") + execute() + SYNC)
    assert play.own == b"" and play.dialog.running() == 3
    play.answer(BOUND + row() + complete("SELECT 1") + READY)
    assert play.outcomes == [(3, "ok")]


@pytest.mark.parametrize("asked", [describe(b"S", b"s"), describe(b"P")])
def test_nothing_is_added_where_the_client_asks_itself(asked: bytes) -> None:
    play = Play()
    play.say(parse("select 1", "s") + bind("s") + asked + execute() + SYNC)
    assert play.own == b""
    play.answer(PARSED + BOUND + NO_DATA + complete("INSERT 0 1") + READY)
    assert NO_DATA in play.client and play.kept == b""


def test_an_answer_without_rows_is_known_as_such() -> None:
    play = Play()
    play.say(parse("insert", "s") + bind("s") + execute() + SYNC)
    play.answer(PARSED + BOUND + NO_DATA + complete("INSERT 0 1") + READY)
    assert play.client == PARSED + BOUND + complete("INSERT 0 1") + READY
    assert play.outcome(2).tag == "INSERT 0 1"


def test_an_error_that_meets_our_message_is_the_execute_s() -> None:
    play = Play(state="T")
    play.say(parse("select 1", "s") + bind("s") + execute() + SYNC)
    failed = error("25P02")
    play.answer(PARSED + BOUND + failed + wire.ready_for_query("E"))
    assert play.client == PARSED + BOUND + failed + wire.ready_for_query("E")
    assert (play.outcome(3).status, play.outcome(3).sqlstate) == ("error", "25P02")
    play.forget()
    play.say(bind("s") + execute() + SYNC)
    assert play.own == OURS, "it never told the columns: it is sent again"


def test_what_is_skipped_with_it_leaves_the_queue() -> None:
    play = Play()
    play.say(parse("wrong") + bind() + execute() + SYNC + parse("good", "g") + bind("g"))
    play.answer(error() + READY + PARSED + BOUND)
    assert [status for _, status in play.outcomes][:2] == ["error", "not_run"]
    play.say(execute() + SYNC).answer(COLUMNS + row() + complete("SELECT 1") + READY)
    assert COLUMNS not in play.client and play.outcomes[-1][1] == "ok"


def test_a_suspended_portal_is_described_before_its_first_rows_only() -> None:
    play = Play(state="T")
    play.say(parse("select 1") + bind() + execute("", 1) + FLUSH)
    play.answer(PARSED + BOUND + COLUMNS + row() + SUSPENDED)
    play.forget()
    play.say(execute("", 1) + SYNC)
    assert play.own == b""
    play.answer(row() + complete("SELECT 1") + IN_BLOCK)
    assert play.client == row() + complete("SELECT 1") + IN_BLOCK


def test_while_the_target_answers_us_the_clients_operation_runs() -> None:
    play = Play()
    play.say(parse("select 1") + bind() + execute() + SYNC)
    play.answer(PARSED + BOUND)
    assert play.dialog.running() == 2
