# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames, headers, footers, seals, wraps and keys: there and back, and nothing mutated passes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.record import frames, seal
from gateway.record.openings import Opening, parse_lines
from gateway.record.recipients import BadKey, Identity, Recipient, make_recipient

SESSION, GENERATION, KEY = bytes(range(16)), b"g" * 16, b"k" * 32


def sealed_frame(payload: bytes, sequence: int = 5, meta: bytes = b'{"at":0}') -> bytes:
    compression, digest, sealed = 0, bytes(32), b""
    if payload:
        cipher = seal.cipher(KEY, 1, GENERATION)
        compression, digest, sealed = seal.seal(
            cipher, os.urandom(16), SESSION, sequence, 2, payload
        )
    clear = frames.CLEAR.pack(
        1, 2, 1, 1, compression, SESSION, sequence, 9, 0, -1, 7, len(meta), len(payload), digest
    )
    return frames.encode(clear + meta, sealed, frames.seed(GENERATION))


def opened(frame: frames.Frame) -> bytes:
    return seal.open_payload(seal.cipher(KEY, frame.view, GENERATION), frame)


@given(st.one_of(st.binary(max_size=300), st.sampled_from([b"a" * 5000, os.urandom(5000)])))
def test_a_frame_comes_back_as_it_was(payload: bytes) -> None:
    data = sealed_frame(payload)
    frame = frames.decode(b"..." + data, 3, frames.seed(GENERATION))
    assert (frame.kind_name, frame.party_name, frame.sequence) == ("request", "client", 5)
    assert (frame.operation, frame.wall_ns, frame.mono_ns, frame.meta) == (9, -1, 7, b'{"at":0}')
    assert (frame.offset, frame.length) == (3, len(data))
    assert opened(frame) == payload


@given(st.data())
def test_no_changed_byte_of_a_frame_passes(data: st.DataObject) -> None:
    whole = sealed_frame(b"select 1")
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
    changed = whole[:at] + bytes([other]) + whole[at + 1 :]
    with pytest.raises(frames.BadFrame):
        frames.decode(changed, 0, frames.seed(GENERATION))


@pytest.mark.parametrize("changes", [{"sequence": 6}, {"kind": 3}, {"session": bytes(16)}])
def test_a_payload_opens_only_where_it_was_sealed(changes: dict[str, object]) -> None:
    frame = frames.decode(sealed_frame(b"secret"), 0, frames.seed(GENERATION))
    fields = {name: getattr(frame, name) for name in frame.__slots__}
    with pytest.raises(seal.SealError):
        opened(frames.Frame(**{**fields, **changes}))


@given(st.binary(max_size=400))
def test_what_is_no_frame_header_or_footer_is_refused(data: bytes) -> None:
    for decode in (frames.decode_header, frames.decode_footer):
        with pytest.raises(frames.BadFrame):
            decode(data)
    with pytest.raises(frames.BadFrame):
        frames.decode(data, 0, frames.seed(GENERATION))


def test_header_and_footer_come_back() -> None:
    header = frames.Header("gw1", 0, 7, GENERATION, "2026-11-24T12:00:00.000000Z")
    rows = [frames.FooterRow(SESSION, 0, 4, 99, (b"p" * 32, b"q" * 32))]
    data = header.encode() + sealed_frame(b"x") + frames.encode_footer(1, rows)
    assert frames.decode_header(data) == (header, len(header.encode()))
    assert frames.decode_footer(data)[:2] == (1, rows)
    assert [opened(frame) for frame in frames.walk(data)] == [b"x"]


@given(st.binary(min_size=16, max_size=16))
def test_a_session_id_has_one_text(raw: bytes) -> None:
    text = frames.session_text(raw)
    assert len(text) == 26
    assert frames.session_bytes(text) == raw
    for wrong in (text.upper() + "=", text[:-1], text + "a", text[:-1] + "b", "é" * 26):
        with pytest.raises(ValueError, match="no session id"):
            frames.session_bytes(wrong)


def test_wraps_open_for_their_recipient_alone(tmp_path: Path) -> None:
    ours, theirs = make_recipient(tmp_path / "ours"), make_recipient(tmp_path / "theirs")
    session = frames.session_text(SESSION)
    wrap = seal.wrap(KEY, session, ours)
    identity = Identity.read(tmp_path / "ours" / "identity")
    assert ours != theirs
    assert seal.unwrap(wrap, session, identity) == KEY
    assert seal.unwrap(wrap, session, Identity.read(tmp_path / "theirs" / "identity")) is None
    for broken in (
        b"",
        b"[]",
        wrap.replace(b'"format":1', b'"format":2'),
        wrap[:-9] + b'AAAAAAA"}',
    ):
        with pytest.raises(seal.SealError):
            seal.unwrap(broken, session, identity)
    with pytest.raises(seal.SealError):
        seal.unwrap(wrap, frames.session_text(bytes(16)), identity)


def test_key_files_are_private_and_never_replaced(tmp_path: Path) -> None:
    recipient = make_recipient(tmp_path / "a")
    identity = tmp_path / "a" / "identity"
    assert (identity.stat().st_mode & 0o777, (tmp_path / "a").stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    assert Recipient.parse((tmp_path / "a" / "recipient.pub").read_text()) == recipient
    assert list(Identity.read(identity).keys) == [recipient.fingerprint]
    with pytest.raises(FileExistsError):
        make_recipient(tmp_path / "a")
    identity.chmod(0o640)
    with pytest.raises(BadKey, match="chmod 600"):
        Identity.read(identity)


@pytest.mark.parametrize("text", ["", "x y", "trailgate-recipient-x25519 AAAA", "age1abc"])
def test_what_is_no_recipient_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(BadKey, match=r"recipient.pub|copy it again"):
        Recipient.parse(text)


@given(st.integers(0, 200))
def test_openings_are_read_up_to_a_torn_line(cut: int) -> None:
    kept = [Opening("a" * 26, "session", (("r", b"{}"),), ordinal) for ordinal in range(3)]
    lines = b"".join(one.line() for one in kept)
    whole = [one.line() for one in kept]
    found = list(parse_lines(lines[: len(lines) - cut]))
    assert found == kept[: sum(len(b"".join(whole[: n + 1])) <= len(lines) - cut for n in range(3))]
