# SPDX-License-Identifier: GPL-3.0-or-later
"""What an earlier run left: read first, then signed, and only then are files changed.

A kill at any moment leaves the next start the same input, so that it comes to the same leaves;
those that are signed already are not made again. Everything here blocks.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.model import RecordFailed
from gateway.record import durable, openings, tree
from gateway.record.frames import (
    KINDS,
    BadFrame,
    FooterRow,
    Frame,
    Header,
    decode,
    decode_footer,
    decode_header,
    seed,
    session_bytes,
    session_text,
    walk,
)
from gateway.record.log import TileLog
from gateway.record.openings import Opening
from gateway.record.scanned import Closed, Span, Tracked, Unclosed, progress_rows
from gateway.record.state import State, boot_id

log = logging.getLogger("trailgate.record")

_START = re.compile(rb"\x01[\x01-\x0b][\x01-\x03][\x01\x02][\x00-\x02]\x00\x00\x00")
_NODE = KINDS["node"]


class Recovery:
    """`plan` reads, `leaves` says what to sign, `finish` changes the files."""

    def __init__(self, journal: Path, tiles: TileLog, node: str, number: int) -> None:
        self._journal = journal
        self._tiles = tiles
        self._node = node
        self._log = number
        saved = State.read(journal)
        self._unsaved = saved is None
        self.state = saved or State()
        self._same_boot = self.state.boot == boot_id()
        self._opened: dict[str, int] = {}
        self._closed: set[str] = set()
        self._recovered: set[int] = set()
        self._gapped: set[str] = set()
        self._counted: dict[bytes, int] = {}
        self._unclosed: list[Unclosed] = []
        self._tracked: dict[bytes, Tracked] = {}
        self.segments: set[int] = set(self.state.segments)
        self.openings: list[Opening] = []
        """Sessions whose leaves were not signed."""
        self.closed: list[Closed] = []
        self.ordinal = self.state.ordinal
        self.next_number = self.state.file

    def plan(self) -> None:
        """Read log, openings and journal files. Raises RecordFailed, OSError."""
        for path in self._journal.glob("*.closing"):
            path.unlink()
        for path in self._journal.glob("spare-*"):
            self._settle(path)
        self._read_leaves()
        self._read_openings()
        for one in self.state.sessions:
            known = Tracked(one.frames, one.frames, list(one.peaks))
            self._tracked[session_bytes(one.session)] = known
        for text in self._opened:
            self._tracked.setdefault(session_bytes(text), Tracked())
        for number, path in self._files():
            self.next_number = max(self.next_number, number + 1)
            self._read_file(number, path)
        self._fall_short()
        signed = max(self.segments | self._recovered, default=-1)
        self.next_number = max(self.next_number, signed + 1)

    def _settle(self, path: Path) -> None:
        """A spare file that was begun gets its name; one that was not goes."""
        with mapped(path) as data:
            try:
                number = decode_header(data)[0].number
            except BadFrame:
                number = -1
        if number < 0:
            path.unlink()
        else:
            os.rename(path, self._journal / f"{number}.journal")

    def _read_leaves(self) -> None:
        for _, data in self._tiles.leaves(self.state.leaves):
            leaf: dict[str, Any] = json.loads(data)
            kind = leaf["type"]
            if kind == "open" and self._unsaved:
                raise RecordFailed(
                    f"{self._journal}: state.json is missing, so open sessions cannot be told: "
                    "restore the folder, or move DATA/node and DATA/journal away, and the node "
                    "starts a new log"
                )
            if kind == "open":
                self._opened[leaf["session"]] = leaf["ordinal"]
                self.ordinal = leaf["ordinal"] + 1
            elif kind == "close":
                self._closed.add(leaf["session"])
            elif kind == "segment":
                self.segments.add(leaf["number"])
            elif kind == "recovered":
                self._recovered.add(leaf["number"])
            elif kind == "gap":
                self._gapped.add(leaf["session"])
            elif kind == "progress":
                self._count(leaf["session"], leaf["sequence"] + 1)

    def _read_openings(self) -> None:
        kept = [one for one in openings.read_all(self._journal) if one.ordinal >= self.ordinal]
        for opening in kept:
            if opening.ordinal != self.ordinal:
                raise RecordFailed(
                    f"{self._journal}: the openings miss ordinal {self.ordinal}: restore the "
                    "folder, or move DATA/node and DATA/journal away to start a new log"
                )
            self.ordinal += 1
            self._opened[opening.session] = opening.ordinal
        self.openings = kept

    def _files(self) -> list[tuple[int, Path]]:
        paths = [path for path in self._journal.glob("*.journal") if path.stem.isdigit()]
        return sorted((int(path.stem), path) for path in paths)

    # --- reading a file --------------------------------------------------------------------------

    def _read_file(self, number: int, path: Path) -> None:
        with mapped(path) as data:
            try:
                header, start = decode_header(data)
            except BadFrame:
                gap = (0, len(bytes(data).rstrip(b"\0")))
                self._unclosed.append(Unclosed(path, number, gaps=[gap] if gap[1] else []))
                return
            self._check_header(path, number, header)
            try:
                frames, _, _ = decode_footer(data)
            except BadFrame:
                self._scan(path, header, start, data)
                return
            unsigned = number >= self.state.file and number not in self.segments
            if unsigned and not _whole(data, frames):
                self._scan(path, header, start, data)
                return
            self.closed.append(Closed(path, header, frames))
            if number >= self.state.file:
                for frame in good_frames(data, start, seed(header.generation)):
                    self._accept(frame)

    def _check_header(self, path: Path, number: int, header: Header) -> None:
        if (header.node, header.log, header.number) != (self._node, self._log, number):
            raise RecordFailed(
                f"{path}: is file {header.number} of {header.node}/{header.log}, not {number} of "
                f"{self._node}/{self._log}: move it away, it belongs to another log"
            )

    def _count(self, session: str, frames: int) -> None:
        raw = session_bytes(session)
        self._counted[raw] = max(frames, self._counted.get(raw, 0))

    def _fall_short(self) -> None:
        """Sessions that end before what their last progress counted: their end is lost."""
        for raw, frames in self._counted.items():
            known = self._tracked.get(raw)
            if known is not None and known.next < frames:
                known.holes.append(f"frames {known.next} to {frames - 1} are lost")

    def _accept(self, frame: Frame) -> Tracked | None:
        if frame.kind == _NODE:
            for session, frames in progress_rows(frame.meta):
                self._count(session, frames)
        known = self._tracked.get(frame.session)
        return known if known is not None and known.accept(frame) else None

    def _scan(self, path: Path, header: Header, start: int, data: mmap.mmap) -> None:
        found = Unclosed(path, header.number, header, start=start)
        end, at = start, start
        for frame in good_frames(data, start, seed(header.generation)):
            known = self._accept(frame)
            if known is not None:
                if frame.offset > at:
                    _add(found.gaps, (at, frame.offset))
                self._keep(found, frame, known)
                at = frame.offset + frame.length
            end = frame.offset + frame.length
        if end > at:
            _add(found.gaps, (at, end))
        self._tail(found, data, end)
        self._unclosed.append(found)

    def _keep(self, found: Unclosed, frame: Frame, known: Tracked) -> None:
        before = found.rows.get(frame.session)
        first = frame.sequence if before is None else before.first
        offset = found.start + found.kept_bytes if before is None else before.offset
        found.rows[frame.session] = FooterRow(
            frame.session, first, frame.sequence, offset, tuple(known.peaks)
        )
        found.frames += 1
        found.kept_bytes += frame.length
        _add(found.kept, (frame.offset, frame.offset + frame.length))

    def _tail(self, found: Unclosed, data: mmap.mmap, at: int) -> None:
        """What lies behind the last good frame: nothing, half a footer, or something lost."""
        rest = data[at:].rstrip(b"\0")
        if not rest or (not found.gaps and found.footer().startswith(rest)):
            return
        # The death of the process cuts an append short: nobody was told that it was recorded.
        # Its length and CRC are written last.
        torn = data[at : at + 4] == bytes(4) or data[at + 4 : at + 8] == bytes(4)
        if not (self._same_boot and torn):
            _add(found.gaps, (at, at + len(rest)))

    # --- what to sign ----------------------------------------------------------------------------

    def leaves(self) -> list[tuple[str, dict[str, Any]]]:
        """(type, members) of the leaves that are still to be signed, openings not among them."""
        out: list[tuple[str, dict[str, Any]]] = []
        for found in self._unclosed:
            if (found.frames or found.gaps) and found.number not in self._recovered:
                gaps = [{"offset": start, "bytes": end - start} for start, end in found.told()]
                members = {"number": found.number, "frames": found.frames, "gaps": gaps}
                out.append(("recovered", members))
        for text, known in self._in_order():
            if known.holes and text not in self._gapped:
                detail = "; ".join(known.holes)[:1000]
                out.append(("gap", {"session": text, "detail": detail}))
        for text, known in self._in_order():
            if text not in self._closed:
                members = {"session": text, "frames": known.frames}
                members["root"] = tree.root(known.peaks).hex()
                members["reason"] = known.reason or "interrupted"
                out.append(("close", members))
        return out

    def _in_order(self) -> list[tuple[str, Tracked]]:
        named = [(session_text(raw), known) for raw, known in self._tracked.items()]
        return sorted(named, key=lambda one: (self._opened.get(one[0], -1), one[0]))

    # --- changing files --------------------------------------------------------------------------

    def finish(self) -> None:
        """Close what was not closed. Only after `leaves` were signed. Raises OSError."""
        for found in self._unclosed:
            if found.frames:
                assert found.header is not None
                if len(found.kept) == 1 and found.kept[0][0] == found.start:
                    _close_in_place(found)
                else:
                    _close_compacted(found)
                self.closed.append(Closed(found.path, found.header, found.frames))
            elif found.gaps:
                os.rename(found.path, found.path.with_suffix(".damaged"))
            else:
                found.path.unlink()
        durable.sync_folder(self._journal)
        self.closed.sort(key=lambda one: one.header.number)


def _add(spans: list[Span], span: Span) -> None:
    """Append, joined with the one before when they touch."""
    if spans and spans[-1][1] == span[0]:
        spans[-1] = (spans[-1][0], span[1])
    else:
        spans.append(span)


def _whole(data: mmap.mmap, frames: int) -> bool:
    """Whether a closed file still holds every frame that its footer counts."""
    try:
        return sum(1 for _ in walk(data)) == frames
    except BadFrame:
        return False


def good_frames(data: mmap.mmap, start: int, crc_seed: int) -> Iterator[Frame]:
    """Every frame between `start` and the end of the file, whatever lies between them.

    After a power loss a later page may be there and an earlier one not.
    """
    at = start
    while True:
        try:
            frame = decode(data, at, crc_seed)
        except BadFrame:
            match = _START.search(data, at + 9)
            if match is None:
                return
            at = match.start() - 8
            continue
        yield frame
        at += frame.length


def _close_in_place(found: Unclosed) -> None:
    end, footer = found.kept[0][1], found.footer()
    with found.path.open("r+b", buffering=0) as file:
        file.seek(end)
        file.write(footer)
        file.truncate(end + len(footer))
        os.fsync(file.fileno())


def _close_compacted(found: Unclosed) -> None:
    closing = found.path.with_suffix(".closing")
    with mapped(found.path) as data, closing.open("wb") as file:
        file.write(data[: found.start])
        for start, end in found.kept:
            file.write(data[start:end])
        file.write(found.footer())
        file.flush()
        os.fsync(file.fileno())
    os.rename(closing, found.path)


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes to read. An empty one cannot be mapped: it is one zero byte."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else mmap.mmap(-1, 1)
        with data:
            yield data
