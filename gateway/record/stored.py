# SPDX-License-Identifier: GPL-3.0-or-later
"""One file of frames, a segment or a journal file, read by range: which sessions, which frames.

A closed file says by its footer where each session begins. One that is still written, or whose
footer is damaged, is scanned; its frames count up to the first that is not whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from gateway.record.frames import (
    CLEAR_BYTES,
    LEAST_FRAME,
    MOST_FRAME,
    MOST_HEADER,
    PREFIX_BYTES,
    BadFrame,
    FooterRow,
    Frame,
    decode,
    decode_footer,
    decode_header,
    seed,
)
from gateway.record.places import Gone, Place

WINDOW = 1 << 20
TAIL = 64 << 10
MOST_FOOTER = 256 << 20
_SESSION_AT = PREFIX_BYTES + 8
_SESSION_END = _SESSION_AT + 16
_HEAD = PREFIX_BYTES + CLEAR_BYTES

Note = Callable[[str], None]
"""Takes a sentence about damage that was passed over."""


@dataclass(slots=True)
class Part:
    """A session's frames in one file: sequences and the byte of the first one."""

    file: StoredFile
    first: int
    last: int
    offset: int


class _Window:
    """Reads a file by range, `WINDOW` bytes ahead."""

    def __init__(self, place: Place, name: str) -> None:
        self._place, self._name = place, name
        self._data, self._at = b"", 0

    def get(self, at: int, size: int) -> bytes:
        """At most `size` bytes from `at` on; fewer at the file's end."""
        start = at - self._at
        if start < 0 or start + size > len(self._data):
            self._data = self._place.read(self._name, at, max(size, WINDOW))
            self._at, start = at, 0
        return self._data[start : start + size]


class StoredFile:
    """Made by `index_file`. `end`: the byte where its frames end, as far as they are known."""

    __slots__ = ("_frames_at", "_seed", "end", "generation", "name", "order", "place", "shown")

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name = place, name
        self.shown = f"{place.shown}/{name}"
        self.end = 0
        self.generation = b""
        self.order: tuple[str, int, int] = ("", 0, 0)
        """Node, log and number: files of one log in the order of writing."""
        self._frames_at = 0
        self._seed = 0

    def load_header(self) -> None:
        """Read the header once. Raises BadFrame, Gone, Unreadable."""
        if self.generation:
            return
        try:
            header, at = decode_header(self.place.read(self.name, 0, MOST_HEADER + 16))
            self.order = (str(header.node), int(header.log), int(header.number))
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
            raise BadFrame("the header is no JSON of this format") from None
        self.generation, self._frames_at = header.generation, at
        self._seed = seed(header.generation)

    def frames(self, at: int, note: Note, wanted: Collection[bytes] = ()) -> Iterator[Frame]:
        """Frames from the byte `at` on, only those of the sessions `wanted` if any are named.

        Others are stepped over unread. Ends at the first bytes that are no frame, which is noted;
        a frame that is not whole is left out. Raises Gone, Unreadable.
        """
        window = _Window(self.place, self.name)
        at = max(at, self._frames_at)
        while at < self.end:
            head = window.get(at, _HEAD)
            length = int.from_bytes(head[:4], "little")
            if not LEAST_FRAME <= length <= min(MOST_FRAME, self.end - at):
                note(f"{self.shown}: no frame begins at byte {at}, the rest was left out")
                return
            if not wanted or head[_SESSION_AT:_SESSION_END] in wanted:
                try:
                    yield decode(window.get(at, length), 0, self._seed)
                except BadFrame as error:
                    note(f"{self.shown}: the frame at byte {at} was left out ({error})")
            at += length

    def frames_at(self, offsets: Iterable[int], note: Note) -> Iterator[Frame]:
        """The frames that begin at these bytes, in rising order; those not whole are left out."""
        window = _Window(self.place, self.name)
        for at in offsets:
            frame = self._whole_frame(window, at)
            if frame is None:
                note(f"{self.shown}: the frame at byte {at} was left out")
            else:
                yield frame

    def rewritten(self) -> bool:
        """The file was published or used anew since it was indexed. Raises Unreadable."""
        now = StoredFile(self.place, self.name)
        try:
            now.load_header()
        except (BadFrame, Gone):
            return True
        return now.generation != self.generation

    def scan(self) -> dict[bytes, Part]:
        """Find the sessions of a file without a footer; sets `end`. Raises Gone, Unreadable."""
        window, at = _Window(self.place, self.name), self._frames_at
        parts: dict[bytes, Part] = {}
        while (frame := self._whole_frame(window, at)) is not None:
            part = parts.get(frame.session)
            if part is None:
                parts[frame.session] = Part(self, frame.sequence, frame.sequence, at)
            else:
                part.last = frame.sequence
            at += frame.length
        self.end = at
        return parts

    def _whole_frame(self, window: _Window, at: int) -> Frame | None:
        length = int.from_bytes(window.get(at, 4), "little")
        if not LEAST_FRAME <= length <= MOST_FRAME:
            return None
        try:
            return decode(window.get(at, length), 0, self._seed)
        except BadFrame:
            # The last frame of a gateway that was killed, or is writing it now.
            return None


def index_file(place: Place, name: str, size: int, note: Note) -> dict[bytes, Part]:
    """Which sessions a file holds. A file that is none of ours is noted and left out.

    Raises Unreadable.
    """
    file = StoredFile(place, name)
    try:
        found = _footer(place, name, size)
        if found is not None:
            rows, file.end = found
            return {
                row.session: Part(file, row.first, row.last, row.offset)
                for row in rows
                if _plausible(row, file.end)
            }
        if name.startswith("seg/"):
            note(f"{file.shown}: its footer is damaged, so it was scanned")
        file.load_header()
        return file.scan()
    except Gone:
        return {}
    except BadFrame as error:
        note(f"{file.shown}: left out, it {error}")
        return {}


def _footer(place: Place, name: str, size: int) -> tuple[list[FooterRow], int] | None:
    """Sessions of a closed file and where its frames end; None where there is no sound footer."""
    start = max(0, size - TAIL)
    tail = place.read(name, start, size - start)
    length = int.from_bytes(tail[-16:-12], "little") + 20
    if tail[-8:] != b"TGFOOT01" or length > min(size, MOST_FOOTER):
        return None
    if length > len(tail):
        start = size - length
        tail = place.read(name, start, length)
    try:
        _, rows, end = decode_footer(tail)
    except (BadFrame, AttributeError, OverflowError, RecursionError):
        return None
    return rows, start + end


def _plausible(row: FooterRow, end: int) -> bool:
    numbers = (row.first, row.last, row.offset)
    return all(type(n) is int for n in numbers) and (
        0 <= row.first <= row.last < 1 << 64 and 0 < row.offset < end
    )
