# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialog, message by message: order, offsets, denials, copies, names, settings, last words."""

from __future__ import annotations

import pytest

from gateway.model import Decision, Declared, Operation, Refusal, Verdict
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.scan import TEXT_CAP
from tests.protocols.postgresql.playbook import (
    BOUND,
    COPY_DONE,
    COPY_IN,
    COPY_OUT,
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
from tests.protocols.postgresql.pump import ALLOW, DENY


def declaring(*declared: Declared) -> Decision:
    return Decision(Verdict.ALLOW, declares=declared)


# --- the plain way -------------------------------------------------------------------------------


def test_a_query_is_asked_forwarded_and_ends_at_ready() -> None:
    play = Play()
    play.say(query("select 1"))
    assert play.target == query("select 1")
    assert play.dialog.busy and play.dialog.running() == 1
    answer = row() + row() + complete("SELECT 2") + READY
    play.answer(answer)
    assert play.client == answer
    assert (play.done[0].start, play.done[0].end) == (0, len(answer))
    assert play.outcome(1).tag == "SELECT 2" and play.outcome(1).rows == 2
    assert play.settled == ["I"] and not play.dialog.busy


def test_offsets_of_operations_count_every_byte_of_the_client() -> None:
    play = Play()
    first, second = query("select 1"), parse("select 2") + bind() + execute() + SYNC
    play.say(first).answer(complete("SELECT 0") + READY)
    play.say(second)
    assert [(o.start, o.end) for o in play.asked] == [
        (0, len(first)),
        (len(first), len(first) + len(parse("select 2"))),
        (len(first + parse("select 2")), len(first + parse("select 2") + bind())),
    ]


def test_a_statement_of_several_commands_is_one_operation() -> None:
    play = Play()
    play.say(query("insert into t values (1); select 1"))
    play.answer(complete("INSERT 0 1") + row() + complete("SELECT 1") + READY)
    assert play.outcomes == [(1, "ok")] and play.outcome(1).tag == "SELECT 1"


def test_nothing_of_an_undecided_operation_or_behind_it_reaches_the_target() -> None:
    play = Play(hold=True)
    play.say(SYNC + query("select 1") + query("select 2"))
    assert play.target == SYNC
    play.say(query("select 3"))
    assert play.dialog.buffered == len(query("select 1")) * 3
    play.answer(READY)
    assert play.client == READY, "answers flow while an operation is held"
    play.decide(ALLOW)
    assert play.target == SYNC + query("select 1")
    assert play.asked[-1].text == "select 2"


def test_a_bind_and_its_execute_in_one_chunk_ask_once_and_later_ask_again() -> None:
    play = Play()
    play.say(parse("select 1", "s") + bind("s") + execute() + SYNC)
    assert [op.kind for op in play.asked] == ["prepare", "execute"] and play.again == []
    assert play.asked[1].prepared_by == 1 and play.asked[1].text == "select 1"
    play.answer(PARSED + BOUND + NO_DATA + complete("SELECT 0") + READY)
    play.say(bind("s", "p")).say(execute("p") + SYNC)
    assert play.again == [3]
    play.answer(BOUND + complete("SELECT 0") + READY)
    assert play.outcomes == [(1, "ok"), (2, "ok"), (3, "ok")]


def test_an_execute_denied_when_asked_again_does_not_run() -> None:
    play = Play()
    play.say(parse("select 1") + bind() + FLUSH).answer(PARSED + BOUND)
    play.rule = lambda operation: DENY
    play.say(execute() + SYNC)
    assert execute() not in play.target and b"trailgate-denied-" in play.own
    play.answer(error("34000") + READY)
    assert b"42501" in play.client and b"34000" not in play.client and b"34000" in play.kept
    assert play.outcomes[-1] == (2, "denied")


def test_a_suspended_portal_goes_on_as_a_new_operation() -> None:
    play = Play(state="T")
    play.say(parse("select 1") + bind() + execute("", 1) + SYNC)
    play.answer(PARSED + BOUND + NO_DATA + row() + SUSPENDED + IN_BLOCK)
    play.say(execute("", 1) + SYNC).answer(row() + complete("SELECT 1") + IN_BLOCK)
    assert [s for _, s in play.outcomes] == ["ok", "suspended", "ok"]
    assert play.asked[-1].text == "select 1" and play.asked[-1].id == play.done[-1].operation


def test_what_the_target_skips_ends_as_not_run() -> None:
    play = Play()
    batch = parse("select 1") + bind() + execute() + parse("select 2") + bind() + execute() + SYNC
    play.say(batch).answer(PARSED + error("22012") + READY)
    assert play.outcomes == [(1, "ok"), (2, "error"), (3, "not_run"), (4, "not_run")]
    assert play.outcome(2).sqlstate == "22012"


def test_an_error_at_sync_changes_the_outcome_of_the_last_operation() -> None:
    play = Play()
    play.say(parse("insert") + bind() + execute() + SYNC)
    play.answer(PARSED + BOUND + NO_DATA + complete("INSERT 0 2") + error("23505") + READY)
    assert play.outcomes == [(1, "ok"), (2, "ok"), (2, "error")]


def test_a_bound_portal_that_never_ran_ends_as_not_run() -> None:
    play = Play()
    play.say(parse("select 1") + bind() + SYNC).answer(PARSED + BOUND + READY)
    assert play.outcomes == [(1, "ok"), (2, "not_run")]


# --- denial --------------------------------------------------------------------------------------


def test_a_denied_query_alone_is_answered_by_us_in_full() -> None:
    play = Play().say(query("denied"))
    assert play.target == play.own == b""
    assert play.client.startswith(b"E") and play.client.endswith(READY)
    assert (play.done[0].start, play.done[0].end) == (0, len(play.client))


def test_a_denied_query_behind_others_fails_in_its_turn() -> None:
    play = Play().say(query("begin") + query("denied") + query("select 2"))
    assert play.target == query("begin") + query("select 2")
    play.answer(complete("BEGIN") + IN_BLOCK + error("34000") + wire.ready_for_query("E"))
    assert play.client.index(b"BEGIN") < play.client.index(b"42501")
    play.answer(error("25P02") + wire.ready_for_query("E"))
    assert play.outcomes == [(1, "ok"), (2, "denied"), (3, "error")]
    assert play.dialog.state == "E"


def test_a_denied_message_drops_the_rest_up_to_sync() -> None:
    play = Play().say(parse("denied") + bind() + execute() + FLUSH)
    assert play.client.startswith(b"E") and not play.client.endswith(READY)
    play.say(parse("select 2") + SYNC)
    assert play.target == play.own == b"" and play.client.endswith(READY)
    play.say(query("select 3"))
    assert play.target == query("select 3")


def test_a_denial_behind_unsynced_work_makes_the_target_fail() -> None:
    play = Play().say(parse("insert") + bind() + execute() + parse("denied") + SYNC)
    assert play.target == parse("insert") + bind() + execute() + SYNC
    play.answer(PARSED + BOUND + NO_DATA + complete("INSERT 0 1") + error("34000") + READY)
    assert b"42501" in play.client and b"34000" not in play.client
    assert play.outcomes == [(1, "ok"), (2, "ok"), (3, "denied")]


def test_an_earlier_error_of_the_target_hides_a_later_denial() -> None:
    play = Play().say(parse("wrong") + parse("denied") + SYNC)
    play.answer(error("42601") + READY)
    assert b"42501" not in play.client
    assert play.outcomes == [(1, "error"), (2, "denied")]


def test_a_denied_query_behind_a_failed_unsynced_message_waits_for_the_clients_sync() -> None:
    play = Play().say(parse("wrong") + query("denied") + query("select 2"))
    assert play.target == parse("wrong")
    play.answer(error("42601"))
    play.answer(READY)
    assert READY not in play.client and play.target == parse("wrong")
    play.say(SYNC)
    assert play.client.endswith(READY)
    play.say(query("select 3"))
    assert play.target.endswith(query("select 3"))


def test_a_denied_query_behind_good_unsynced_work_gets_its_own_ready() -> None:
    play = Play().say(parse("select 1") + query("denied") + query("select 2"))
    play.answer(PARSED + error("34000") + READY)
    assert play.client.endswith(READY) and play.target.endswith(query("select 2"))


def test_a_query_that_the_target_skipped_does_not_end_the_skip() -> None:
    play = Play().say(parse("wrong") + query("select 1")).answer(error())
    assert play.outcomes == [(1, "error"), (2, "not_run")]
    play.say(query("select 2") + SYNC)
    assert play.target == parse("wrong") + query("select 1") + SYNC
    assert READY not in play.client


def test_the_portal_that_cannot_exist_has_another_name_each_time() -> None:
    play = Play(state="T")
    play.say(query("denied")).say(query("denied"))
    assert len(set(play.own.split(SYNC)) - {b""}) == 2


def test_data_of_a_denied_copy_is_dropped() -> None:
    play = Play().say(query("copy denied") + copy_data(b"1\n") * 3)
    play.say(copy_data(b"x" * 100)[:50]).say(copy_data(b"x" * 100)[50:] + COPY_DONE)
    assert play.target == b""
    play.say(query("select 1"))
    assert play.target == query("select 1")


# --- copies --------------------------------------------------------------------------------------


def test_a_sync_during_copy_in_is_ignored_and_the_next_one_counts() -> None:
    play = Play().say(parse("copy") + bind() + execute() + SYNC)
    play.answer(PARSED + BOUND + NO_DATA + COPY_IN)
    play.say(copy_data(b"1\n") * 1000 + COPY_DONE + SYNC)
    play.answer(complete("COPY 1000") + READY)
    assert play.outcomes == [(1, "ok"), (2, "ok")] and not play.dialog.busy
    assert play.close is None


def test_data_sent_before_the_target_asks_for_it_is_the_copys() -> None:
    play = Play().say(query("copy") + copy_data(b"1\n") + COPY_DONE + query("select 1"))
    play.answer(COPY_IN + complete("COPY 1") + READY + complete("SELECT 0") + READY)
    assert play.outcomes == [(1, "ok"), (2, "ok")]


def test_stray_data_after_a_failed_copy_is_no_error() -> None:
    play = Play().say(query("copy")).answer(COPY_IN + error("22P02") + READY)
    play.say(copy_data(b"late") + COPY_DONE + query("select 1"))
    assert play.target == query("copy") + query("select 1") and play.close is None


def test_another_message_during_copy_in_closes_the_session() -> None:
    play = Play().say(query("copy")).answer(COPY_IN).say(query("select 1"))
    assert play.close is not None and play.close.reason == "protocol"


def test_copy_out_counts_its_rows_and_streams() -> None:
    play = Play().say(query("copy t to stdout"))
    big = copy_data(b"x" * 100_000)
    play.answer(COPY_OUT + big[:1000])
    assert not play.dialog.at_border and play.client == COPY_OUT + big[:1000]
    play.answer(big[1000:] + copy_data(b"y") + COPY_DONE + complete("COPY 2") + READY)
    assert play.outcome(1).rows == 2 and play.dialog.at_border


def test_copy_both_is_refused() -> None:
    play = Play().say(query("start_replication")).answer(wire.message(wire.COPY_BOTH_RESPONSE))
    assert play.close is not None and play.close.reason == "protocol"


# --- large and wrong messages --------------------------------------------------------------------


def test_a_large_bind_streams_once_it_is_allowed() -> None:
    play = _prepared()
    message = bind("s", "", b"x" * 1_000_000)
    play.say(message[:300_000])
    assert play.asked[-1].end - play.asked[-1].start == len(message)
    assert play.target == b"" and play.dialog.buffered == 300_000
    play.decide(ALLOW)
    assert play.target == message[:300_000] and play.dialog.buffered == 0
    play.hold = False
    play.say(message[300_000:] + execute() + SYNC)
    assert play.target == message + execute() + SYNC


def test_a_large_bind_that_is_denied_is_dropped_to_its_end() -> None:
    play = _prepared()
    message = bind("s", "", b"x" * 1_000_000)
    play.say(message[:300_000]).say(message[300_000:600_000])
    play.decide(DENY)
    play.say(message[600_000:] + execute() + SYNC)
    assert play.target == b"" and play.client.endswith(READY)


def _prepared() -> Play:
    play = Play()
    play.say(parse("insert", "s") + SYNC).answer(PARSED + READY)
    play.forget()
    play.hold = True
    return play


def test_a_text_over_the_cap_is_refused_before_it_is_kept() -> None:
    play = Play().say(b"Q" + (TEXT_CAP + 5).to_bytes(4, "big"))
    assert b"54000" in play.client and play.close is not None


@pytest.mark.parametrize(
    "message",
    [
        b"y\0\0\0\4",
        b"Q\0\0\0\3",
        b"Q\0\0\0\4",
        b"Q\0\0\0\7ab\0"[:-1] + b"c",
        b"Q\0\0\0\x08a\0b\0",
        b"S\0\0\0\5x",
        b"Q\xff\xff\xff\xffselect",
        b"D\0\0\0\6X\0",
        wire.message(wire.BIND, b"\0\0\0\0\0\1\xff\xff\xff\x00\0\0"),
        wire.message(wire.BIND, b"\0\0\0\0\0\1\0\0\0\1x\0\0\0"),
        wire.message(wire.PARSE, b"\0select 1\0\0\1"),
        b"p\0\0\0\4",
    ],
)
def test_what_a_client_may_not_send_closes_with_a_clear_error(message: bytes) -> None:
    play = Play().say(message)
    assert play.close is not None and play.close.reason == "protocol"
    assert b"08P01" in play.client and play.target == b""


@pytest.mark.parametrize(
    "answer",
    [b"R\0\0\0\x08\0\0\0\0", READY, row(), complete("SELECT 1"), b"Z\0\0\0\5X", b"?\0\0\0\4"],
)
def test_what_a_target_may_not_send_closes_the_session(answer: bytes) -> None:
    play = Play().answer(answer)
    assert play.close is not None and play.close.reason == "protocol"
    assert answer not in play.client


def test_a_fatal_error_of_the_target_is_passed_on_and_ends_the_session() -> None:
    play = Play(hold=True).say(query("select 1")).answer(error("57P01", "FATAL"))
    assert b"57P01" in play.client and play.close is not None and play.close.reason == "target"
    assert play.outcomes == [(1, "not_run")] and play.own == b""


# --- names ---------------------------------------------------------------------------------------


def test_a_failed_parse_creates_no_statement() -> None:
    play = Play().say(parse("select 1", "a") + SYNC).answer(error() + READY)
    assert play.dialog.fact("prepared:a") is None
    play.say(bind("a") + SYNC)
    assert play.asked[-1].text is None and "no statement is known" in play.asked[-1].undecodable


def test_a_failed_second_parse_of_a_name_leaves_the_first() -> None:
    play = Play().say(parse("select 1", "a") + SYNC).answer(PARSED + READY)
    play.say(parse("select 2", "a") + SYNC + bind("a")).answer(error("42P05") + READY)
    assert play.dialog.fact("prepared:a") == "select 1"


def test_a_skipped_close_leaves_the_statement() -> None:
    play = Play().say(parse("select 1", "a") + SYNC).answer(PARSED + READY)
    play.say(parse("wrong", "b") + wire.message(wire.CLOSE, b"Sa\0") + SYNC)
    assert play.dialog.fact("prepared:a") is None
    play.answer(error() + READY)
    assert play.dialog.fact("prepared:a") == "select 1"


def test_a_simple_query_drops_the_unnamed_statement() -> None:
    play = Play().say(parse("select 1") + SYNC).answer(PARSED + READY)
    assert play.dialog.fact("prepared:") == "select 1"
    play.say(query("select 2"))
    assert play.dialog.fact("prepared:") is None


def test_sql_prepare_and_the_wire_share_one_namespace() -> None:
    play = Play()
    play.rule = lambda op: (
        declaring(Declared("prepare", "x", "select 7")) if op.kind == "query" else ALLOW
    )
    play.say(query("prepare x as select 7")).answer(complete("PREPARE") + READY)
    play.say(bind("x") + execute() + SYNC)
    assert (play.asked[-1].text, play.asked[-1].prepared_by) == ("select 7", 1)
    play.answer(BOUND + NO_DATA + complete("SELECT 0") + READY)
    play.rule = lambda op: declaring(Declared("deallocate", ""))
    play.say(query("deallocate all")).answer(complete("DEALLOCATE ALL") + READY)
    assert play.dialog.fact("prepared:x") is None


def test_a_cursor_of_sql_may_be_executed_on_the_wire() -> None:
    play = Play(state="T")
    play.rule = lambda op: (
        declaring(Declared("cursor", "c", "select 9")) if op.kind == "query" else ALLOW
    )
    play.say(query("declare c cursor for select 9")).answer(complete("DECLARE CURSOR") + IN_BLOCK)
    assert play.dialog.fact("cursor:c") == "select 9"
    play.say(execute("c", 10) + SYNC)
    assert play.asked[-1].text == "select 9"


# --- settings ------------------------------------------------------------------------------------


def test_text_is_decoded_by_the_clients_encoding() -> None:
    play = Play().answer(wire.parameter_status("client_encoding", "LATIN1"))
    play.say(wire.message(wire.QUERY, b"select '\xe4'\0"))
    assert play.asked[-1].text == "select 'ä'"
    play = Play().say(wire.message(wire.QUERY, b"select '\xe4'\0"))
    assert play.asked[-1].text is None and "not valid UTF8" in play.asked[-1].undecodable
    play = Play().answer(wire.parameter_status("client_encoding", "MULE_INTERNAL"))
    play.say(query("select 1"))
    assert play.asked[-1].text is None and play.outcomes == [(1, "denied")]


def test_backslashes_are_not_read_while_strings_do_not_conform() -> None:
    play = Play().answer(wire.parameter_status("standard_conforming_strings", "off"))
    play.say(query("select 1")).say(query(r"select '\'"))
    assert [op.text for op in play.asked] == ["select 1", None]


def test_a_text_behind_a_setting_waits_until_the_setting_is_known() -> None:
    def rule(op: Operation) -> Decision:
        if op.kind == "execute" and op.text == "set":
            return declaring(Declared("setting", "search_path", "a"))
        return ALLOW

    play = Play()
    play.rule = rule
    play.say(parse("set") + bind() + execute() + parse("select") + bind() + execute() + SYNC)
    assert [op.text for op in play.asked] == ["set", "set"] and play.own == wire.describe_portal(
        b""
    ) + FLUSH
    play.answer(PARSED + BOUND + NO_DATA + complete("SET"))
    assert [op.text for op in play.asked] == ["set", "set", "select", "select"]
    assert play.dialog.fact("search_path") == "a"
    play.answer(error("22012") + READY)
    assert play.dialog.fact("search_path") is None


def test_a_setting_of_a_transaction_is_unknown_after_commit_and_restored_by_rollback() -> None:
    play = Play()
    play.rule = lambda op: (
        declaring(Declared("setting", "search_path", (op.text or "").split()[1]))
        if (op.text or "").startswith("set")
        else ALLOW
    )
    play.say(query("set a")).answer(complete("SET") + READY)
    play.say(query("begin")).answer(complete("BEGIN") + IN_BLOCK)
    play.say(query("set b")).answer(complete("SET") + IN_BLOCK)
    assert play.dialog.fact("search_path") == "b"
    play.say(query("rollback")).answer(complete("ROLLBACK") + READY)
    assert play.dialog.fact("search_path") == "a"
    play.say(query("begin")).answer(complete("BEGIN") + IN_BLOCK)
    play.say(query("set b")).answer(complete("SET") + IN_BLOCK)
    play.say(query("commit")).answer(complete("COMMIT") + READY)
    assert play.dialog.fact("search_path") is None


def test_the_client_sees_its_own_application_name_until_it_sets_one() -> None:
    play = Play().answer(wire.parameter_status("application_name", "sessionid psql"))
    assert play.client == wire.parameter_status("application_name", "psql")
    play.answer(wire.parameter_status("application_name", "mine"))
    assert play.client.endswith(wire.parameter_status("application_name", "mine"))


def test_notices_and_notifications_pass_at_any_time() -> None:
    aside = wire.notice_response("NOTICE", "00000", "hello") + wire.message(
        ord("A"), b"\0\0\0\1c\0p\0"
    )
    play = Play().answer(aside)
    assert play.client == aside and play.close is None


# --- leaving -------------------------------------------------------------------------------------


def test_a_client_that_leaves_while_held_runs_nothing() -> None:
    play = Play(hold=True).say(query("select 1"))
    play.perform(play.dialog.client_gone())
    assert play.outcomes == [(1, "not_run")] and play.target == b""
    assert play.dialog.decided(1, ALLOW) == [] and play.close is not None


def test_a_terminate_behind_a_held_operation_ends_the_hold() -> None:
    play = Play(hold=True).say(query("select 1")).say(wire.TERMINATE_MESSAGE)
    assert play.outcomes == [(1, "not_run")] and play.close is not None
    assert play.target == b""


def test_terminate_is_passed_on_and_what_ran_is_still_told() -> None:
    play = Play().say(query("select 1") + wire.TERMINATE_MESSAGE + query("select 2"))
    assert play.target == query("select 1") + wire.TERMINATE_MESSAGE
    assert play.close is None and play.dialog.busy
    play.answer(complete("SELECT 0") + READY)
    assert play.outcomes == [(1, "ok")] and play.close is not None


def test_terminate_behind_work_without_sync_ends_it_as_unknown() -> None:
    play = Play().say(parse("select 1") + wire.TERMINATE_MESSAGE)
    assert play.outcomes == [(1, "unknown")] and play.close is not None


def test_the_outcome_of_what_runs_is_told_after_the_client_has_left() -> None:
    play = Play().say(query("select 1"))
    play.perform(play.dialog.client_gone())
    assert play.close is None and play.own == wire.TERMINATE_MESSAGE
    play.answer(error("57014") + READY)
    assert play.outcomes == [(1, "error")]
    assert play.close is not None and play.close.reason == "client"


@pytest.mark.parametrize(
    ("code", "sqlstate"),
    [
        ("record", "58030"),
        ("target", "08006"),
        ("capacity", "53300"),
        ("killed", "57P01"),
        ("too_large", "54000"),
        ("protocol", "08P01"),
        ("cancelled", "57014"),
        ("denied", "42501"),
    ],
)
def test_a_refusal_has_its_sqlstate(code: str, sqlstate: str) -> None:
    play = Play()
    play.perform(play.dialog.refused(Refusal("unavailable", code, "because", session="s")))
    assert sqlstate.encode() in play.client and b"FATAL" in play.client
    assert play.close is not None and play.own == wire.TERMINATE_MESSAGE


def test_inside_a_message_the_link_is_cut_without_words() -> None:
    play = Play().say(query("select 1")).answer(row(b"x" * 100)[:20])
    before = play.client
    play.perform(play.dialog.refused(Refusal("unavailable", "killed", "because")))
    assert play.client == before and play.close is not None
    assert play.outcomes == [(1, "unknown")]
