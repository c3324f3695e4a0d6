# SPDX-License-Identifier: GPL-3.0-or-later
"""The reading side of the record: its sessions, and the frames of one. It proves nothing.

What is not whole is left out and noted; `trailgate verify` says what that means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gateway.model import RecordedFrame
from gateway.record import sessions as documents
from gateway.record.events import sound_event
from gateway.record.frames import CLOSE, BadFrame, Frame, session_bytes, session_text
from gateway.record.history import History, read_history
from gateway.record.opening import Opener, read_identity, session_key
from gateway.record.places import Gone, Place, Reach, Unreadable, find_places
from gateway.record.sessions import Counted, SessionDocument
from gateway.record.stored import Part, StoredFile, index_file

MOST_NOTES = 100
_SHOWN_MATCHES = 5
_ATTEMPTS = 5
Parts = dict[bytes, list[Part]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as the record has it. `hops`: (actor, grant, proved), the origin first."""

    document: SessionDocument
    hops: list[tuple[str, str | None, bool]]


class Evidence:
    """A record in a data folder, an evidence folder or `s3://bucket/prefix`. Raises Unreadable.

    `identity`: the private key that opens it; without one, payloads are None. `running`: the
    gateway of that data folder answers, so a session without an end is open.
    """

    def __init__(
        self,
        place: Path | str,
        identity: Path | None = None,
        *,
        reach: Reach | None = None,
        running: bool = False,
    ) -> None:
        self._places = find_places(place, reach or Reach())
        self._identity = read_identity(identity) if identity is not None else None
        self._running = running
        self._index: Parts | None = None
        self._history: History | None = None
        self.notes: list[str] = []
        """What was left out, for people; at most MOST_NOTES sentences."""

    def _note(self, text: str) -> None:
        if len(self.notes) < MOST_NOTES and text not in self.notes:
            self.notes.append(text)

    # --- which sessions there are -----------------------------------------------------------------

    def _parts(self) -> Parts:
        if self._index is None:
            self._index = self._read_index()
        return self._index

    def _read_index(self) -> Parts:
        """Journal files first: one that is published meanwhile is then seen twice, not never."""
        parts: Parts = {}
        journal, evidence = self._places.journal, self._places.evidence
        if journal is not None:
            files = {n: size for n, size in journal.names("").items() if n.endswith(".journal")}
            self._read_files(journal, files, parts)
        self._read_files(evidence, evidence.names("seg/"), parts)
        for found in parts.values():
            found.sort(key=lambda part: (part.first, -part.last))
        return parts

    def _read_files(self, place: Place, files: Mapping[str, int], parts: Parts) -> None:
        def read(item: tuple[str, int]) -> dict[bytes, Part]:
            return index_file(place, *item, self._note)

        named = [item for item in files.items() if "/.shipping-" not in item[0]]
        with ThreadPoolExecutor(place.at_once) as threads:
            for found in threads.map(read, named):
                for session, part in found.items():
                    parts.setdefault(session, []).append(part)

    def _leaves(self) -> History:
        if self._history is None:
            self._history = read_history(self._places.evidence)
        return self._history

    def find(self, prefix: str) -> str:
        """The one session whose id begins so. Raises Unreadable."""
        known = {session_text(raw) for raw in self._parts()}
        if prefix in known:
            return prefix
        if len(prefix) == 26 and prefix in self._steadily(self._leaves).opens:
            return prefix
        found = sorted(one for one in known if prefix and one.startswith(prefix))
        if len(found) == 1:
            return found[0]
        if not found:
            raise Unreadable(
                f"{self._places.evidence.shown}: no session begins with {prefix!r}",
                "trailgate sessions list shows them all",
            )
        shown = ", ".join(found[:_SHOWN_MATCHES])
        raise Unreadable(
            f"{len(found)} sessions begin with {prefix!r}: {shown}", "write more of the id"
        )

    # --- the frames of one ------------------------------------------------------------------------

    def frames(self, session_id: str) -> Iterator[RecordedFrame]:
        """Each frame once, in order, as it is read: memory holds one. Raises Unreadable."""
        try:
            raw = session_bytes(session_id)
        except (ValueError, UnicodeError) as error:
            raise Unreadable(str(error), "trailgate sessions list shows the ids") from None
        key = None
        if self._identity is not None:
            key = session_key(self._identity, self._places, session_id, self._note)
        opener, leaf = Opener(key, self._note), 0
        for file, frame in self._stored_frames(raw):
            # A hole moves the leaves behind it by an unknown number.
            whole = leaf == frame.sequence
            leaf += whole
            yield RecordedFrame(
                frame.sequence,
                frame.kind_name,
                frame.party_name,
                frame.wall_ns,
                self._meta(frame),
                opener.payload(frame, file.generation),
                frame.sequence if whole else None,
            )

    def clear_frames(self, session_id: str) -> Iterator[tuple[int, bytes]]:
        """(sequence, clear part) of each frame: the leaves of its tree. Raises Unreadable."""
        for _, frame in self._stored_frames(session_bytes(session_id)):
            yield frame.sequence, frame.clear

    def opens(self, session_id: str) -> bool:
        """Whether the identity opens this session."""
        if self._identity is None:
            return False
        if session_key(self._identity, self._places, session_id, self._note) is not None:
            return True
        if session_id in self._leaves().erased:
            self._note(f"session {session_id}: its key was erased, nobody can read its content")
        return False

    def _stored_frames(self, raw: bytes) -> Iterator[tuple[StoredFile, Frame]]:
        """A live gateway publishes and removes files under our hands; then look again."""
        following = 0
        for _ in range(_ATTEMPTS):
            moved = False
            for part in self._parts().get(raw, ()):
                if part.last < following:
                    continue
                try:
                    for frame in self._part_frames(part, {raw}):
                        if frame.sequence >= following:
                            following = frame.sequence + 1
                            yield part.file, frame
                except Gone:
                    moved = True
                moved = moved or (following <= part.last and self._has_moved(part.file))
                if moved:
                    break
            if not moved:
                return
            self._index = None
        raise Unreadable(f"session {session_text(raw)}: its files keep moving", "try again")

    def _has_moved(self, file: StoredFile) -> bool:
        return file.place is self._places.journal and file.rewritten()

    def _part_frames(self, part: Part, wanted: Collection[bytes]) -> Iterator[Frame]:
        try:
            part.file.load_header()
        except BadFrame as error:
            self._note(f"{part.file.shown}: left out, it {error}")
            return
        for frame in part.file.frames(part.offset, self._note, wanted):
            yield frame
            if len(wanted) == 1 and frame.sequence >= part.last:
                return

    def _meta(self, frame: Frame) -> dict[str, Any]:
        """The metadata, with only those events that have what their kind must have."""
        try:
            meta = json.loads(frame.meta)
        except (ValueError, RecursionError):
            meta = None
        if not isinstance(meta, dict):
            self._note(f"frame {frame.sequence}: its metadata is no JSON object")
            return {}
        at, events = meta.get("at", 0), meta.get("events", [])
        good = [e for e in events if sound_event(e)] if isinstance(events, list) else []
        if good != events or type(at) is not int:
            self._note(f"frame {frame.sequence}: events that make no sense were left out")
        return {**meta, "at": at if type(at) is int else -1, "events": good}

    # --- sessions as documents --------------------------------------------------------------------

    def sessions(
        self,
        chosen: Callable[[list[Listed]], list[Listed]] = lambda listed: listed,
        counted_elsewhere: Collection[str] = (),
    ) -> list[Listed]:
        """Every session of a client, oldest first. Raises Unreadable.

        `chosen` picks from all of them as they were at the open, before their ends are looked for.
        Sessions `counted_elsewhere` are live: their counters stay null.
        """

        def read() -> list[Listed]:
            found = [
                *self._opened_of(list(self._parts()), documents.of_client),
                *self._only_in_logs(),
            ]
            found.sort(key=lambda one: (one.document["opened"] or "", one.document["id"]))
            found = chosen(found)
            self._end({one.document["id"]: one.document for one in found}, counted_elsewhere)
            return found

        return self._steadily(read)

    def nodes(self) -> list[str]:
        """Ids of the records that nodes keep of themselves, one a start."""
        opened = self._steadily(lambda: [*self._opened_of(list(self._parts()), documents.of_node)])
        return [one.document["id"] for one in opened]

    def grants(self) -> list[Listed]:
        """The records of grants, oldest first: who was given what, used or not."""
        found = self._steadily(
            lambda: [*self._opened_of(list(self._parts()), documents.of_grant, rest=False)]
        )
        return sorted(found, key=lambda one: one.document["opened"] or "")

    def session(self, session_id: str) -> Listed:
        """One session by its whole id, the node's own included. Raises Unreadable."""

        def read() -> Listed:
            found = [*self._opened_of([session_bytes(session_id)], documents.of_any)]
            if not found:
                found = [one for one in self._only_in_logs() if one.document["id"] == session_id]
            if not found:
                raise Unreadable(f"session {session_id} is not in this record")
            self._end({session_id: found[0].document}, ())
            return found[0]

        return self._steadily(read)

    def _steadily(self, read: Callable[[], T]) -> T:
        """Read again where a live gateway moved a file meanwhile. Raises Unreadable."""
        for _ in range(_ATTEMPTS):
            try:
                return read()
            except Gone:
                self._index = self._history = None
        raise Unreadable(f"{self._places.evidence.shown}: its files keep moving", "try again")

    def _opened_of(
        self, sessions: list[bytes], wanted: documents.Wanted, *, rest: bool = True
    ) -> Iterator[Listed]:
        """By file and offset, so that each file is read once and forwards. `rest`: those too of
        which the first frame is not here."""
        firsts: dict[int, list[Part]] = {}
        headless: list[bytes] = []
        raws: dict[tuple[int, int], bytes] = {}
        for raw in sessions:
            part = next(iter(self._parts().get(raw, ())), None)
            if part is None:
                continue
            if part.first != 0:
                headless.append(raw)
                continue
            firsts.setdefault(id(part.file), []).append(part)
            raws[id(part.file), part.offset] = raw
        for parts in firsts.values():
            yield from self._read_opens(parts, raws, headless, wanted)
        for raw in headless if rest else ():
            yield Listed(documents.opened(session_text(raw), {}), [])

    def _read_opens(
        self,
        parts: list[Part],
        raws: dict[tuple[int, int], bytes],
        headless: list[bytes],
        wanted: documents.Wanted,
    ) -> Iterator[Listed]:
        file = parts[0].file
        missing = {raws[id(file), part.offset] for part in parts}
        try:
            file.load_header()
            for frame in file.frames_at(sorted(part.offset for part in parts), self._note):
                meta = self._meta(frame)
                missing.discard(frame.session)
                if wanted(meta):
                    document = documents.opened(session_text(frame.session), meta)
                    yield Listed(document, documents.hops(meta))
        except BadFrame as error:
            self._note(f"{file.shown}: left out, it {error}")
        headless += missing

    def _only_in_logs(self) -> Iterator[Listed]:
        """Sessions that a log opened and whose frames are not here: not yet, or no more."""
        known = self._parts()
        for session_id, leaf in self._leaves().opens.items():
            try:
                there = session_bytes(session_id) in known
            except (ValueError, UnicodeError):
                continue
            if leaf.kind == "session" and not there:
                meta = {"gateway": leaf.node, "opened": leaf.at}
                yield Listed(documents.opened(session_id, meta), [])

    def _end(self, found: dict[str, SessionDocument], counted_elsewhere: Collection[str]) -> None:
        unclosed = self._close_by_frames(found)
        for session_id in unclosed:
            document = found[session_id]
            leaf = self._leaves().closes.get(session_id)
            reason, at = (leaf.reason, leaf.at) if leaf else (None, None)
            documents.end_by_log(document, reason, at, self._leaves().ended(session_id))
            if document["state"] == "open" and self._places.data and not self._running:
                # Nobody writes there: its gateway was killed, and the next start will say so.
                document["state"] = "interrupted"
        for session_id, counted in self._counted(unclosed - set(counted_elsewhere)).items():
            found[session_id].update(counted.document())

    def _close_by_frames(self, found: dict[str, SessionDocument]) -> set[str]:
        """Add what close frames say; the sessions that have none here."""
        left = set(found)
        for file, sessions in self._by_file(found, last_only=True).items():
            first = min(sessions.values(), key=lambda part: part.offset)
            waiting = set(sessions)
            for frame in self._frames_of(file, first.offset, waiting):
                text = session_text(frame.session)
                if frame.kind == CLOSE and text in left:
                    documents.close(found[text], self._meta(frame))
                    left.discard(text)
                if frame.sequence >= sessions[frame.session].last:
                    waiting.discard(frame.session)
                    if not waiting:
                        break
        return left

    def _counted(self, sessions: Collection[str]) -> dict[str, Counted]:
        """Count anew what sessions without a close frame did: one pass, file after file."""
        counted: dict[str, Counted] = {}
        following: dict[bytes, int] = {}
        files = self._by_file(sessions, last_only=False)
        for file, parts in sorted(files.items(), key=lambda item: self._order(item[0])):
            first = min(part.offset for part in parts.values())
            for frame in self._frames_of(file, first, set(parts)):
                if frame.sequence < following.get(frame.session, 0):
                    continue
                following[frame.session] = frame.sequence + 1
                one = counted.setdefault(session_text(frame.session), Counted())
                one.frame(frame.kind_name, frame.payload_length, self._meta(frame))
        return counted

    def _order(self, file: StoredFile) -> tuple[str, int, int]:
        try:
            file.load_header()
        except BadFrame as error:
            self._note(f"{file.shown}: left out, it {error}")
        return file.order

    def _frames_of(self, file: StoredFile, at: int, wanted: set[bytes]) -> Iterator[Frame]:
        try:
            file.load_header()
            yield from file.frames(at, self._note, wanted)
        except BadFrame as error:
            self._note(f"{file.shown}: left out, it {error}")

    def _by_file(
        self, sessions: Collection[str], *, last_only: bool
    ) -> dict[StoredFile, dict[bytes, Part]]:
        files: dict[StoredFile, dict[bytes, Part]] = {}
        for text in sessions:
            raw = session_bytes(text)
            parts = self._parts().get(raw, [])
            chosen = sorted(parts, key=lambda part: part.last)[-1:] if last_only else parts
            for part in chosen:
                files.setdefault(part.file, {})[raw] = part
        return files
