# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a record back: folders, live journals, damage; every frame once and nothing invented."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.record.places import Unreadable
from gateway.record.reader import Evidence
from tests.record.recorded_story import Story, closing, journal_file, opening
from tests.verify.corpus import Corpus

MEMBERS = [
    "id", "target", "protocol", "user", "origin", "chain", "groups", "grant", "client", "labels",
    "gateway", "policies", "opened", "closed", "state", "reason", "operations", "denied", "held",
    "masked", "rows", "bytes",
]  # fmt: skip


def documents(place: Path | str, **options: Any) -> list[dict[str, Any]]:
    return [one.document for one in Evidence(place, **options).sessions()]


def test_frames_come_in_order_over_files_and_are_opened(tmp_path: Path) -> None:
    story = Story(tmp_path).shipped()
    frames = list(Evidence(tmp_path, story.identity()).frames(story.reader.id))
    assert [frame.sequence for frame in frames] == list(range(len(story.asked.frames) + 2))
    assert [frame.leaf for frame in frames] == list(range(len(frames)))
    assert (frames[0].kind, frames[-1].kind) == ("open", "close")
    inner = frames[1:-1]
    assert [frame.payload for frame in inner] == [frame.payload for frame in story.asked.frames]
    assert [frame.meta for frame in inner] == story.meta()


def test_without_an_identity_payloads_are_none_and_the_clear_part_stays(tmp_path: Path) -> None:
    story = Story(tmp_path).shipped()
    frames = list(Evidence(tmp_path).frames(story.reader.id))
    sealed = [frame.payload is None for frame in frames[1:-1]]
    assert sealed == [bool(frame.payload) for frame in story.asked.frames]
    assert [frame.meta for frame in frames[1:-1]] == story.meta()
    assert frames[0].payload == b""


def test_another_auditors_key_opens_nothing(tmp_path: Path) -> None:
    story = Story(tmp_path / "a").shipped()
    evidence = Evidence(tmp_path / "a", Story(tmp_path / "b").identity())
    assert not evidence.opens(story.reader.id)
    assert [f.payload for f in evidence.frames(story.reader.id) if f.kind == "request"] == [
        None
    ] * 2
    assert evidence.notes == []


def test_sessions_say_what_their_frames_and_leaves_say(tmp_path: Path) -> None:
    story = Story(tmp_path).shipped()
    reader, writer = documents(tmp_path)
    assert list(reader) == list(writer) == MEMBERS
    assert reader == {
        "id": story.reader.id,
        "target": "orders",
        "protocol": "postgresql",
        "user": "app",
        "origin": "alice",
        "chain": ["alice", "boss", "reader"],
        "groups": ["data-agents"],
        "grant": "g_reader",
        "client": "127.0.0.1:5000",
        "labels": {"application_name": "psql"},
        "gateway": "gw1",
        "policies": [{"name": "p", "version": "v1", "mode": "enforce"}],
        "opened": "2026-11-24T12:00:01.000000Z",
        "closed": "2026-11-24T12:00:09.000000Z",
        "state": "closed",
        "reason": "client",
        "operations": 2,
        "denied": 1,
        "held": 0,
        "masked": 0,
        "rows": 3,
        "bytes": 99,
    }
    assert (writer["state"], writer["closed"], writer["reason"]) == ("interrupted", None, None)
    sizes = sum(len(frame.payload or b"") for frame in story.begun.frames)
    assert (writer["operations"], writer["rows"], writer["bytes"]) == (1, 1, sizes)


def test_where_a_gateway_may_still_write_a_session_without_an_end_is_open(tmp_path: Path) -> None:
    Story(tmp_path).shipped()
    assert documents(tmp_path, running=True)[1]["state"] == "open"
    assert documents(tmp_path / "evidence")[1]["state"] == "open"


def test_a_signed_interruption_and_a_log_that_ended_are_told_apart(tmp_path: Path) -> None:
    signed = Story(tmp_path / "signed").shipped()
    signed.corpus.close(signed.writer, "interrupted")
    signed.corpus.write()
    document = documents(tmp_path / "signed" / "evidence")[1]
    assert (document["state"], document["reason"]) == ("interrupted", "interrupted")
    assert document["closed"] is None
    stopped = Story(tmp_path / "stopped").shipped()
    stopped.corpus.leaf("stop", sessions=2)
    stopped.corpus.write()
    assert documents(tmp_path / "stopped")[1]["state"] == "lost"


@pytest.mark.parametrize(
    ("reason", "state"),
    [("killed", "killed"), ("revoked", "killed"), ("expired", "killed"), ("drain", "closed")],
)
def test_the_reason_of_the_close_frame_is_the_state(
    tmp_path: Path, reason: str, state: str
) -> None:
    corpus = Corpus(tmp_path)
    one = corpus.session()
    meta = opening(one, (), "2026-11-24T12:00:01.000000Z")
    data = corpus.file(0, [(one, "open", b"", meta), (one, "close", b"", closing(reason))])
    corpus.shipped(0, data, 2)
    corpus.write()
    (document,) = documents(tmp_path)
    assert (document["state"], document["reason"]) == (state, reason)


def test_a_session_of_which_only_the_log_knows_is_listed_with_nulls(tmp_path: Path) -> None:
    story = Story(tmp_path).shipped()
    for path in (tmp_path / "evidence" / "seg").rglob("*"):
        if path.is_file():
            path.unlink()
    documents_now = documents(tmp_path / "evidence")
    assert {one["id"] for one in documents_now} == {story.reader.id, story.writer.id}
    assert {one["state"] for one in documents_now} == {"open", "closed"}
    assert all(one["target"] is None and one["operations"] is None for one in documents_now)


def test_a_live_journal_is_read_up_to_its_last_whole_frame(tmp_path: Path) -> None:
    story = Story(tmp_path).live()
    evidence = Evidence(tmp_path, story.identity(), running=True)
    frames = list(evidence.frames(story.reader.id))
    assert (len(frames), frames[-1].kind) == (len(story.asked.frames) + 2, "close")
    assert [one.document["state"] for one in evidence.sessions()] == ["closed", "open"]
    path = tmp_path / "journal" / "1.journal"
    data = bytearray(path.read_bytes())
    end = len(data.rstrip(b"\0"))
    data[end - 1] ^= 1
    path.write_bytes(data)
    left = list(Evidence(tmp_path, story.identity()).frames(story.writer.id))
    assert len(left) == len(story.begun.frames)
    assert Evidence(tmp_path).session(story.writer.id).document["operations"] == 1


def test_a_file_that_is_in_both_places_is_read_once(tmp_path: Path) -> None:
    story = Story(tmp_path)
    first, second = story.files()
    story.corpus.shipped(0, first, 3)
    story.corpus.shipped(1, second, 3)
    story.corpus.put(tmp_path / "journal" / "1.journal", second)
    story.corpus.put(tmp_path / "journal" / "0.journal", journal_file(first))
    story.corpus.write()
    sequences = [frame.sequence for frame in Evidence(tmp_path).frames(story.reader.id)]
    assert sequences == list(range(len(story.asked.frames) + 2))
    assert documents(tmp_path)[1]["operations"] == 1


def test_a_journal_that_is_published_while_it_is_read_is_found_again(tmp_path: Path) -> None:
    story = Story(tmp_path).live()
    path = tmp_path / "journal" / "1.journal"
    evidence = Evidence(tmp_path, story.identity())
    frames = evidence.frames(story.reader.id)
    seen = [next(frames)]
    path.rename(tmp_path / "evidence" / "seg" / "gw1" / "20261124" / ("0" * 64))
    seen += list(frames)
    assert [frame.sequence for frame in seen] == list(range(len(story.asked.frames) + 2))


def test_the_start_of_an_id_is_enough_where_it_is_the_only_one(tmp_path: Path) -> None:
    story = Story(tmp_path).shipped()
    evidence = Evidence(tmp_path)
    assert evidence.find(story.reader.id) == story.reader.id
    length = next(n for n in range(1, 27) if story.reader.id[:n] != story.writer.id[:n])
    assert evidence.find(story.reader.id[:length]) == story.reader.id
    with pytest.raises(Unreadable, match="no session begins"):
        evidence.find("0")
    with pytest.raises(Unreadable, match="no session begins"):
        evidence.find("")


def test_what_is_no_record_is_refused_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as empty:
        Evidence(tmp_path)
    assert "no record lies here" in str(empty.value) and empty.value.cure
    with pytest.raises(Unreadable, match="is not a folder"):
        Evidence(tmp_path / "none")
    story = Story(tmp_path).shipped()
    path = story.corpus.identity_file()
    path.chmod(0o644)
    with pytest.raises(Unreadable, match="others may read it"):
        Evidence(tmp_path, path)
    with pytest.raises(Unreadable, match="no session id"):
        list(Evidence(tmp_path).frames("../../etc/passwd"))


def test_a_payload_that_was_changed_is_left_out_and_noted(tmp_path: Path) -> None:
    story = Story(tmp_path).shipped()
    (wrap,) = (tmp_path / "keys" / story.reader.id).iterdir()
    fields = json.loads(wrap.read_bytes())
    fields["wrapped"] = base64.b64encode(bytes(80)).decode()
    wrap.write_text(json.dumps(fields))
    evidence = Evidence(tmp_path, story.identity())
    payloads = [f.payload for f in evidence.frames(story.reader.id) if f.kind == "request"]
    assert payloads == [None, None]
    assert any("does not open the wrap" in note for note in evidence.notes)
