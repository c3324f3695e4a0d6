# SPDX-License-Identifier: GPL-3.0-or-later
"""With an auditor's private key: session keys from their wraps, payloads from their frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.record.frames import MOST_FRAME, Frame
from gateway.record.openings import OPENINGS, parse_lines
from gateway.record.places import Gone, Place, Places, Unreadable
from gateway.record.recipients import BadKey, Identity
from gateway.record.seal import SealError, cipher, open_payload, unwrap

MOST_WRAP = 65536


def read_identity(path: Path) -> Identity:
    """An identity file. Raises Unreadable."""
    try:
        return Identity.read(path)
    except OSError as error:
        cure = "name the auditor's private key with --identity"
        raise Unreadable(f"{path}: {error.strerror}", cure) from error
    except BadKey as error:
        raise Unreadable(str(error)) from error


def session_key(
    identity: Identity, places: Places, session_id: str, note: Callable[[str], None]
) -> bytes | None:
    """The session's key; None when no wrap is for this identity. Raises Unreadable."""
    for shown, wrap in _wraps(places, session_id):
        try:
            key = unwrap(wrap, session_id, identity)
        except (SealError, RecursionError) as error:
            note(f"{shown}: left out ({error})")
            continue
        if key is not None:
            return key
    return None


def _wraps(places: Places, session_id: str) -> Iterator[tuple[str, bytes]]:
    """Of a session that has just opened, the wraps stand in its node's openings first. They are
    in keys/ before they leave there, so that whoever looks in this order misses none."""
    if places.journal is not None:
        yield from _just_opened(places.journal, session_id)
    for place in places.keys:
        for name, size in place.names(f"{session_id}/").items():
            if name.endswith(".wrap") and size <= MOST_WRAP:
                with suppress(Gone):
                    yield f"{place.shown}/{name}", place.read(name, 0, MOST_WRAP)


def _just_opened(journal: Place, session_id: str) -> Iterator[tuple[str, bytes]]:
    for name, size in journal.names("").items():
        if name.endswith(OPENINGS):
            with suppress(Gone, ValueError):
                for opening in parse_lines(journal.read(name, 0, size)):
                    if opening.session == session_id:
                        yield from ((f"{journal.shown}/{name}", wrap) for _, wrap in opening.wraps)


class Opener:
    """Opens the payloads of one session."""

    def __init__(self, key: bytes | None, note: Callable[[str], None]) -> None:
        self._key = key
        self._note = note
        self._cipher: AESGCM | None = None
        self._of: tuple[int, bytes] | None = None

    def payload(self, frame: Frame, generation: bytes) -> bytes | None:
        """None where it stays sealed, or does not open (which is noted)."""
        if not frame.payload_length:
            return b""
        if self._key is None:
            return None
        if frame.payload_length > MOST_FRAME:
            self._note(f"frame {frame.sequence} was not opened: it claims more than a frame holds")
            return None
        # One cipher is enough: a session's frames come file after file.
        if self._cipher is None or self._of != (frame.view, generation):
            self._of = (frame.view, generation)
            self._cipher = cipher(self._key, frame.view, generation)
        try:
            return open_payload(self._cipher, frame)
        except SealError as error:
            self._note(f"a payload was left out: {error}")
            return None
