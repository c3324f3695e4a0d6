# SPDX-License-Identifier: GPL-3.0-or-later
"""Truncated, mutated and forged files: left out and noted, or refused in the reader's own words."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin.cli._reading import Recorded
from gateway.admin.cli.output import Failed, json_text
from gateway.record.frames import walk
from gateway.record.places import Unreadable
from gateway.record.reader import Evidence
from tests.examples import examples
from tests.record.recorded_story import Story, opening
from tests.verify.corpus import Corpus, dump


@pytest.fixture(scope="module")
def whole() -> Iterator[Story]:
    """One record with a live journal; each example changes a copy of one file."""
    folder = Path(tempfile.mkdtemp())
    story = Story(folder).live()
    story.identity()
    yield story
    shutil.rmtree(folder)


def segments(data: Path) -> list[Path]:
    """Smallest first."""
    found = (path for path in (data / "evidence" / "seg").rglob("*") if path.is_file())
    return sorted(found, key=lambda path: path.stat().st_size)


def read_all(data: Path) -> None:
    """Everything that commands read; only the readers' own errors may come."""
    try:
        evidence = Evidence(data, data / "identity")
        for one in evidence.sessions():
            list(evidence.frames(one.document["id"]))
    except Unreadable:
        return
    recorded = Recorded.opened(data, data / "identity")
    for document in recorded.sessions():
        try:
            for operation in recorded.operations(document, 2):
                json_text(operation)
        except Failed as error:
            assert "make no sense together" in str(error)


def changed(original: bytes, change: tuple[str, int, bytes]) -> bytes:
    kind, at, new = change
    at %= len(original)
    if kind == "cut":
        return original[:at]
    if kind == "insert":
        return original[:at] + new + original[at:]
    if kind == "remove":
        return original[:at] + original[at + len(new) + 1 :]
    return original[:at] + new + original[at + len(new) :]


CHANGES = st.tuples(
    st.sampled_from(["cut", "insert", "remove", "replace"]),
    st.integers(0, 1 << 20),
    st.binary(max_size=12),
)


@settings(max_examples=examples(150), deadline=None)
@given(which=st.integers(0, 20), change=CHANGES)
def test_any_file_may_be_changed_and_reading_only_leaves_out(
    whole: Story, which: int, change: tuple[str, int, bytes]
) -> None:
    files = sorted(
        path for path in whole.data.rglob("*") if path.is_file() and path.name != "identity"
    )
    path = files[which % len(files)]
    original = path.read_bytes()
    used = original.rstrip(b"\0") or b"\0"
    try:
        path.write_bytes(changed(used, change))
        read_all(whole.data)
    finally:
        path.write_bytes(original)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FORGED = st.fixed_dictionaries(
    {},
    optional={
        "ev": st.sampled_from(["ask", "done", "settled", "cancel", "x"]) | JSON,
        **{name: st.integers(-2, 99) | JSON for name in ("op", "start", "end", "prepared_by")},
        **{name: JSON for name in ("kind", "name", "status", "tag", "rows", "sqlstate")},
        "decision": JSON | st.fixed_dictionaries({"verdict": JSON, "clear": JSON, "masks": JSON}),
    },
)


@settings(max_examples=examples(150), deadline=None)
@given(opened=JSON, events=st.lists(FORGED, max_size=4) | JSON, at=st.integers(-1, 50) | JSON)
def test_frames_that_are_whole_and_lie_do_not_break_the_reader(
    opened: object, events: object, at: object
) -> None:
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        corpus = Corpus(data)
        corpus.identity_file().chmod(0o600)
        one = corpus.session()
        start = json.loads(opening(one, ("boss",), "2026-11-24T12:00:01.000000Z"))
        start.update({"policies": opened, "labels": opened, "groups": opened, "user": opened})
        lie = json.dumps({"at": at, "events": events}).encode()
        steps = [(one, kind, b"Q\0\0\0\x06a\0", lie) for kind in ("request", "answer")]
        closed = [(one, "close", b"", json.dumps({"reason": opened, "rows": opened}).encode())]
        file = corpus.file(0, [(one, "open", b"", dump(start)), *steps, *closed])
        corpus.shipped(0, file, 4)
        corpus.write()
        read_all(data)


def with_footer(file: bytes, footer: object) -> bytes:
    (length,) = struct.unpack("<I", file[-16:-12])
    text = json.dumps(footer).encode()
    end = struct.pack("<II", len(text), zlib.crc32(text)) + b"TGFOOT01"
    return file[: -(length + 16)] + text + end


@settings(max_examples=examples(60), deadline=None)
@given(footer=JSON | st.fixed_dictionaries({"frames": JSON, "sessions": st.lists(
    st.fixed_dictionaries({"session": JSON | st.just("a" * 26), "first": JSON | st.just(0),
                           "last": JSON | st.just(9), "offset": JSON | st.integers(0, 4000),
                           "peaks": st.just([])}), max_size=3)}))  # fmt: skip
def test_a_footer_that_lies_does_not_break_the_reader(whole: Story, footer: object) -> None:
    (path,) = segments(whole.data)
    original = path.read_bytes()
    try:
        path.write_bytes(with_footer(original, footer))
        read_all(whole.data)
    finally:
        path.write_bytes(original)


def test_a_segment_without_its_footer_is_scanned_and_that_is_noted(tmp_path: Path) -> None:
    story = Story(tmp_path).shipped()
    path = segments(tmp_path)[-1]
    frames = len(list(walk(path.read_bytes())))
    path.write_bytes(path.read_bytes()[:-30])
    evidence = Evidence(tmp_path, story.identity())
    assert (
        len(list(evidence.frames(story.reader.id))) + len(list(evidence.frames(story.writer.id)))
        >= frames
    )
    assert any("footer is damaged" in note for note in evidence.notes)


def test_a_frame_that_was_flipped_is_left_out_and_the_others_are_read(tmp_path: Path) -> None:
    story = Story(tmp_path).shipped()
    path = segments(tmp_path)[-1]
    data = bytearray(path.read_bytes())
    first = next(walk(bytes(data)))
    data[first.offset + first.length - 1] ^= 1
    path.write_bytes(data)
    evidence = Evidence(tmp_path, story.identity())
    sequences = [frame.sequence for frame in evidence.frames(story.reader.id)]
    assert first.sequence not in sequences
    assert len(sequences) == len(story.asked.frames) + 1
    leaves = [frame.leaf for frame in evidence.frames(story.reader.id)]
    assert leaves[-1] is None
    assert any("was left out" in note for note in evidence.notes)
