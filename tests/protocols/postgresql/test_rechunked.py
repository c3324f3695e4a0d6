# SPDX-License-Identifier: GPL-3.0-or-later
"""However a stream is cut, the same happens; however it is mutated, the session ends in words."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import Refusal
from gateway.protocols import WireError
from gateway.protocols.postgresql import scan, wire
from tests.examples import examples
from tests.protocols.postgresql.playbook import (
    BOUND,
    COPY_DONE,
    COPY_IN,
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
    copy_data,
    error,
    execute,
    parse,
    query,
    row,
)

# (what the client says, what the target answers), one after the other.
SCRIPT = [
    (query("select 1"), wire.message(84, b"\0\0") + row() * 3 + complete("SELECT 3") + READY),
    (query("denied"), b""),
    (parse("select 2", "s") + bind("s") + execute() + SYNC,
     PARSED + BOUND + NO_DATA + row(b"x" * 300) + complete("SELECT 1") + READY),
    (query("begin"), complete("BEGIN") + IN_BLOCK),
    (query("denied"), error("34000") + wire.ready_for_query("E")),
    (query("rollback"), complete("ROLLBACK") + READY),
    (parse("insert") + bind("", "", b"v" * 200) + execute() + parse("denied") + FLUSH,
     PARSED + BOUND + NO_DATA + complete("INSERT 0 1") + error("34000")),
    (SYNC, READY),
    (query("copy"), COPY_IN),
    (copy_data(b"1\n") * 20 + COPY_DONE,
     wire.notice_response("NOTICE", "00000", "x") + complete("COPY 20") + READY),
    (parse("a") + bind() + execute("", 1) + SYNC,
     PARSED + BOUND + NO_DATA + row() + SUSPENDED + READY),
    (parse("wrong") + SYNC, error() + READY),
]  # fmt: skip
CLIENT = b"".join(said for said, _ in SCRIPT)
TARGET = b"".join(answer for _, answer in SCRIPT)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in zip(at, at[1:], strict=False) if a < b]


def played(cuts: list[int] | None) -> Play:
    play = Play()
    for said, answer in SCRIPT:
        for data, step in ((said, play.say), (answer, play.answer)):
            parts = [data[i : i + 1] for i in range(len(data))] if cuts is None else []
            for part in parts or pieces(data, cuts or []):
                step(part)
    return play


def told(play: Play) -> tuple[object, ...]:
    done = [(d.operation, d.outcome, d.start, d.end) for d in play.done]
    asked = [(o.id, o.kind, o.text, o.start, o.end) for o in play.asked]
    by_operation = dict.fromkeys(asked)
    return play.target, play.client, play.kept, done, list(by_operation), play.settled, play.close


WHOLE = told(played([]))


def test_the_script_does_what_it_says() -> None:
    play = played([])
    statuses = [done.outcome.status for done in play.done]
    assert statuses.count("denied") == 3 and "suspended" in statuses and play.close is None
    assert b"denied\0" not in play.target


def test_byte_by_byte_the_same_happens() -> None:
    assert told(played(None)) == WHOLE


@given(st.lists(st.integers(0, 1000), max_size=12))
@settings(max_examples=examples(60), deadline=None)
def test_cut_anywhere_the_same_happens(cuts: list[int]) -> None:
    assert told(played(cuts)) == WHOLE


@given(st.data())
@settings(max_examples=examples(150), deadline=None)
def test_mutated_input_of_either_side_ends_in_effects_and_nothing_else(data: st.DataObject) -> None:
    play = Play()
    seed = random.Random(data.draw(st.integers(0, 2**32)))
    for said, answer in SCRIPT:
        for raw, step in ((said, play.say), (answer, play.answer)):
            mutated = bytearray(raw)
            if mutated and seed.random() < 0.3:
                mutated[seed.randrange(len(mutated))] = seed.randrange(256)
            step(bytes(mutated))
    play.perform(play.dialog.client_gone())
    play.perform(play.dialog.refused(Refusal("unavailable", "killed", "enough")))
    assert play.close is not None
    assert not play.dialog.busy


@given(st.binary(max_size=300))
@settings(max_examples=examples(200), deadline=None)
def test_any_bytes_are_framed_or_refused(data: bytes) -> None:
    for walk in (
        lambda: scan.scan_target(data, 0),
        lambda: scan.skip_run(data, 0, 68, 100),
        lambda: scan.frame(data, 0, scan.CLIENT),
        lambda: wire.read_fields(data, 0, len(data)),
        lambda: wire.read_parameter(data, 0, len(data)),
        lambda: wire.only_cstring(data, 0, len(data)),
    ):
        try:
            walk()
        except WireError:
            continue


def test_events_and_rows_of_a_chunk_are_all_that_stood_in_it() -> None:
    chunk = row() * 1000 + complete("SELECT 1000") + READY
    events, stop, rows, missing = scan.scan_target(chunk, 0)
    assert [(kind, before) for kind, _, _, before in events] == [(67, 1000), (90, 0)]
    assert (stop, rows, missing) == (len(chunk), 0, 0)


@pytest.mark.parametrize("length", [0, 3, 0x80000000])
def test_an_impossible_length_is_refused(length: int) -> None:
    for kind in b"DdC":
        with pytest.raises(WireError, match="impossible length"):
            scan.scan_target(bytes([kind]) + length.to_bytes(4, "big"), 0)


def one_by_one(data: bytes, at: int) -> tuple[int, int]:
    """What skip_run says, in the plainest way."""
    count = 0
    while len(data) - at >= 5 and data[at] in b"Dd":
        at += 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        count += 1
    return at, count


@given(
    runs=st.lists(
        st.tuples(st.sampled_from(b"DdC"), st.integers(0, 90), st.integers(1, 200)), max_size=12
    ),
    behind=st.binary(max_size=6),
    cut=st.integers(0, 400),
)
def test_runs_of_equal_rows_are_skipped_as_one_by_one(
    runs: list[tuple[int, int, int]], behind: bytes, cut: int
) -> None:
    data = b"".join(lookalike(kind, width) * count for kind, width, count in runs) + behind
    data = data[: len(data) - cut] if cut < len(data) else data
    try:
        assert scan.skip_run(data, 0, ord("D"), ord("d")) == one_by_one(data, 0)
    except WireError:
        assert any(byte in b"Dd" for byte in behind), "only what stands behind is impossible"


def lookalike(kind: int, width: int) -> bytes:
    """A message whose body looks like headers of its kind."""
    return wire.message(kind, (bytes((kind, 0, 0, 0, 4)) * 20)[:width])
