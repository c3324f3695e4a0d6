# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit replay`: the documents of the interface, sealed content, streams, terminals."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root
from gateway.admin.cli._reading import Recorded
from gateway.protocols.postgresql import wire
from tests.protocols.postgresql import recorded
from tests.record.recorded_story import Story, closing, opening, rows, steps_of
from tests.verify.corpus import Corpus

OPERATION = [
    "seq", "kind", "started", "ended", "frame", "leaf", "request", "decision", "outcome", "results",
]  # fmt: skip
DECISION = ["verdict", "policy", "version", "rule", "reason", "masks", "approval"]


def trailgate(*arguments: str) -> Result:
    return CliRunner().invoke(root, arguments)


def replay(story: Story, *options: str, sealed: bool = False) -> Result:
    identity = () if sealed else ("--identity", str(story.identity()))
    return trailgate("audit", "replay", *options, "--data", str(story.data), *identity)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "data").shipped()


def test_replay_prints_the_document_of_the_interface(story: Story) -> None:
    result = replay(story, story.reader.id, "-o", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert list(document) == ["session", "operations"]
    assert document["session"]["id"] == story.reader.id
    read, dropped = document["operations"]
    assert list(read) == list(dropped) == OPERATION
    assert list(read["request"]) == ["text", "parameters"]
    assert list(read["decision"]) == DECISION
    assert list(read["outcome"]) == ["tag", "rows", "bytes", "error"]
    assert read["request"] == {"text": "select name", "parameters": []}
    assert read["results"] == [{"columns": ["name"], "rows": [["Ada"], ["Grace\x1b[2J"]]}]
    assert (read["outcome"]["tag"], read["outcome"]["rows"]) == ("SELECT 2", 2)
    assert dropped["decision"]["verdict"] == "deny"
    assert dropped["request"]["text"] == "drop table t"
    assert (read["frame"], read["leaf"], read["seq"]) == (1, 1, 1)
    assert Recorded.opened(story.data, story.identity()).replay(story.reader.id) == document


def test_jsonl_is_an_operation_a_line(story: Story) -> None:
    whole = json.loads(replay(story, story.reader.id, "-o", "json").stdout)
    lines = replay(story, story.reader.id, "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == whole["operations"]


def test_without_the_key_the_clear_part_is_shown_with_a_hint(story: Story) -> None:
    result = replay(story, story.reader.id, "-o", "json", sealed=True)
    assert result.exit_code == 0
    read, dropped = json.loads(result.stdout)["operations"]
    assert read["request"]["text"] is None and read["results"] == []
    assert (read["outcome"]["tag"], dropped["decision"]["verdict"]) == ("SELECT 2", "deny")
    assert "stays sealed" in result.stderr and "--identity" in result.stderr
    text = replay(story, story.reader.id, sealed=True).stdout
    assert "CLEAR ?  (values are sealed)" in text and "Ada" not in text


def test_the_auditors_key_in_the_data_folder_is_found(story: Story) -> None:
    (story.data / "auditor").mkdir()
    story.identity().rename(story.data / "auditor" / "identity")
    result = replay(story, story.reader.id, sealed=True)
    assert "select name" in result.stdout and result.stderr == ""


@pytest.mark.parametrize("output", ["text", "json", "jsonl"])
def test_no_escape_sequence_reaches_the_terminal(tmp_path: Path, output: str) -> None:
    story = Story(tmp_path / "data")
    evil = "\x1b]0;owned\x07\x9b31m\u202e\x7f\r"
    story.asked.simple(f"select '{evil}'", rows(evil), tag=evil, rows=1)
    story.shipped()
    for arguments in ((story.reader.id,), ("--tree",)):
        result = replay(story, *arguments, "-o", output)
        assert result.exit_code == 0 and "owned" in result.stdout
        assert not set(evil) & set("\x1b\x07\x9b\u202e\x7f\r") & set(result.stdout)
    if output == "text":
        assert "\x1b]0;owned\x07" in replay(story, story.reader.id, "--raw").stdout


def test_text_shows_statements_results_and_refusals(story: Story) -> None:
    text = replay(story, story.reader.id[:20]).stdout
    for shown in ("select name", "Ada", "Grace\\x1b[2J", "SELECT 2", "deny", "drop table t"):
        assert shown in text
    assert text.index("select name") < text.index("Ada") < text.index("drop table t")


def test_a_tree_is_one_timeline_of_its_agents(story: Story) -> None:
    document = json.loads(replay(story, "--tree", story.reader.id, "-o", "json").stdout)
    assert [one["id"] for one in document["sessions"]] == [story.reader.id, story.writer.id]
    assert {one["session"] for one in document["operations"]} == {story.reader.id, story.writer.id}
    started = [one["started"] for one in document["operations"]]
    assert started == sorted(started)
    narrowed = json.loads(replay(story, "--tree", "g_writer", "-o", "json").stdout)
    assert {one["session"] for one in narrowed["operations"]} == {story.writer.id}


def test_a_tree_has_each_statement_under_the_agent_that_ran_it(story: Story) -> None:
    lines = replay(story, "--tree").stdout.splitlines()
    heads = [line for line in lines if not line.startswith(" " * 8) and line]
    marks = [line.partition("  (named")[0].partition(" (session")[0] for line in heads]
    assert marks == [
        "alice",
        "  boss",
        "    reader",
        "      - alice > boss > reader on orders",
        "    writer",
        "      - alice > boss > writer on stock",
    ]
    assert all("(named by its parent)" in heads[place] for place in (1, 2, 4))
    places = [
        next(n for n, line in enumerate(lines) if shown in line)
        for shown in ("reader on orders", "select name", "Grace", "drop table t", "    writer")
    ]
    assert places == sorted(places)
    below = lines[places[0] + 1 : places[-1]]
    assert all(line.startswith(" " * 10) for line in below if line)
    one = replay(story, "--tree", "g_writer").stdout
    assert "writer on stock" in one and "reader" not in one
    assert one.splitlines()[0] == "alice", "who stands above it is shown"


def test_a_text_of_many_lines_cannot_leave_its_place_in_the_tree(tmp_path: Path) -> None:
    story = Story(tmp_path / "data")
    story.asked.simple("select 1\nalice\n  - alice > forged on orders", rows("x"), tag="x\nbob")
    story.shipped()
    lines = replay(story, "--tree").stdout.splitlines()
    assert [line for line in lines if line.startswith("alice")] == ["alice"]
    assert any(line.strip().startswith("- alice > forged") for line in lines), "it is shown"
    assert not any(line.startswith(("bob", "  - ", "      - alice > forged")) for line in lines)


def test_which_session_must_be_said(story: Story) -> None:
    assert replay(story).exit_code == 2
    missing = replay(story, "zz")
    assert missing.exit_code == 2 and "no session begins" in missing.stderr


def copied(folder: Path, pieces: int) -> Story:
    """A COPY of so many MiB, each in a frame of its own."""
    story = Story(folder)
    message, record = recorded.query("copy t to stdout"), story.asked
    start, begin = record.asked, record.answered
    ask = record.ask("query", start, start + len(message))
    record.request(message, ask)
    head = wire.message(wire.COPY_OUT_RESPONSE, b"\0\0\1\0\0")
    record.answer(head)
    line = recorded.copy_data(b"x" * 1023 + b"\n")
    for _ in range(pieces):
        record.answer(line * 1024)
    end = recorded.complete("COPY 1")
    done = record.done(ask["op"], begin, record.answered + len(end), tag="COPY 1")
    record.answer(end + recorded.READY, done)
    return story.shipped()


def test_a_large_copy_comes_in_pieces_at_bounded_memory(tmp_path: Path) -> None:
    story = copied(tmp_path / "data", 40)
    result = replay(story, story.reader.id, "-o", "jsonl")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    parts = [one for one in lines if one["request"]["text"] == "copy t to stdout"]
    assert [one["part"] for one in parts] == list(range(1, len(parts) + 1))
    assert len(parts) >= 40 and parts[-1]["outcome"]["tag"] == "COPY 1"
    text = "".join(r["copy"].get("text", "") for one in parts for r in one["results"])
    assert text == ("x" * 1023 + "\n") * 1024 * 40
    assert f"COPY out: {40 << 20} bytes" in replay(story, story.reader.id).stdout
    recorded_story = Recorded.opened(story.data, story.identity())
    session = recorded_story.session(story.reader.id)
    tracemalloc.start()
    for _ in recorded_story.operations(session, 1000):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20


def test_a_session_of_nothing_replays_to_nothing(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    one = corpus.session()
    opened = opening(one, (), "2026-11-24T12:00:01.000000Z")
    file = corpus.file(0, [(one, "open", b"", opened), (one, "close", b"", closing())])
    corpus.shipped(0, file, 2)
    corpus.write()
    result = trailgate("audit", "replay", one.id, "--data", str(tmp_path), "-o", "json")
    assert json.loads(result.stdout)["operations"] == []


def test_rows_beyond_a_piece_are_counted_in_text(tmp_path: Path) -> None:
    story = Story(tmp_path / "data")
    many = [f"name-{number}" for number in range(2500)]
    story.asked.simple("select many", rows(*many), tag="SELECT 2500", rows=2500)
    assert len(steps_of(story.reader, story.asked)) == len(story.asked.frames)
    story.shipped()
    text = replay(story, story.reader.id).stdout
    assert "name-49" in text and "name-50" not in text and "2450 more rows" in text
    lines = replay(story, story.reader.id, "-o", "jsonl").stdout.splitlines()
    pieces: list[dict[str, Any]] = [json.loads(line) for line in lines][2:]
    told = [row[0] for one in pieces for result in one["results"] for row in result["rows"]]
    assert told == many and len(pieces) == 3
