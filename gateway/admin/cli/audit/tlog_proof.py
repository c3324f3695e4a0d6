# SPDX-License-Identifier: GPL-3.0-or-later
"""The export format tlog-proof: that the log holds a session, or one frame of it (C2SP tlog-proof).

The session is proved by its close leaf, an open one by the newest progress leaf that counts it.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.admin.cli.audit.export import Wanted
from gateway.admin.cli.output import Failed, visible
from gateway.record import tree
from gateway.record.frames import canonical, session_bytes
from gateway.record.places import Gone, Reach, Unreadable, find_places
from gateway.record.progress import row_leaf
from gateway.record.reader import Evidence
from gateway.record.stored_log import StoredLog, stored_logs
from gateway.ship import ShipFailed
from gateway.ship.proofs import TileHashes, siblings

_CLEAR_BYTES = 100
_MOST_PROGRESS = 4096
"""Progress leaves that are remembered; an open session is in one of the newest."""


def export(wanted: Wanted) -> None:
    """Write the proof. Raises Failed."""
    prefix, colon, number = wanted.session().partition(":")
    if colon and not re.fullmatch(r"0|[1-9]\d{0,18}", number):
        raise Failed(f"{visible(number)!r} is no number of a frame", "write SESSION:FRAME, from 0")
    options = wanted.options
    if options.data is None:
        options.opened()  # raises, with what to name
    place: Path | str = str(options.data)
    if not str(place).startswith("s3://"):
        place = Path(place)
    reach = Reach(options.keys, options.endpoint_url, options.region)
    try:
        record = Evidence(place, reach=reach)
        session = record.find(prefix)
        logs = stored_logs(find_places(place, reach).evidence)
        proof = _Prover(record, session).prove(logs, int(number) if colon else None)
    except Unreadable as error:
        raise Failed(visible(str(error)), error.cure) from error
    except (Gone, ShipFailed, ValueError, KeyError, TypeError) as error:
        raise Failed(f"the record is not whole: {error}", "trailgate verify says more") from error
    wanted.out.write(proof)


@dataclass(slots=True)
class _Told:
    """What a log says of one session."""

    log: StoredLog
    size: int
    note: bytes
    opened: tuple[int, bytes] | None = None
    closed: tuple[int, bytes] | None = None
    progress: deque[tuple[int, bytes]] = field(
        default_factory=lambda: deque[tuple[int, bytes]](maxlen=_MOST_PROGRESS)
    )
    certificates: list[str] = field(default_factory=list)
    rotations: list[tuple[int, dict[str, str]]] = field(default_factory=list)


class _Prover:
    def __init__(self, record: Evidence, session: str) -> None:
        self._record = record
        self._session = session

    def prove(self, logs: Sequence[StoredLog], frame: int | None) -> bytes:
        for log in reversed(logs):
            told = self._read(log)
            if told.opened is not None:
                return self._proof(told, frame)
        raise Failed(f"session {self._session}: no checkpoint covers it yet", "try again later")

    def _read(self, log: StoredLog) -> _Told:
        """What its signed leaves say."""
        size, note = log.checkpoint()
        told = _Told(log, size, note)
        for index, leaf in enumerate(log.leaves(size)):
            self._take(told, index, leaf)
        return told

    def _take(self, told: _Told, index: int, leaf: bytes) -> None:
        fields = json.loads(leaf)
        kind, session = fields["type"], fields.get("session")
        if kind == "certificate":
            told.certificates.append(str(fields["note"]))
        elif kind == "rotation":
            members = {name: fields[name] for name in ("new", "by_old", "by_new")}
            told.rotations.append((index, members))
        elif kind == "progress":
            told.progress.append((index, leaf))
        elif session == self._session and kind == "open":
            told.opened = index, leaf
        elif session == self._session and kind == "close":
            told.closed = index, leaf

    def _proof(self, told: _Told, frame: int | None) -> bytes:
        extra: dict[str, Any] = {"format": 1, "vkey": told.log.read("node.vkey").decode().strip()}
        if told.closed is not None:
            (index, leaf), frames = told.closed, int(json.loads(told.closed[1])["frames"])
        elif frame is None and told.opened is not None:
            (index, leaf), frames = told.opened, 0
        else:
            index, leaf, extra["row"] = self._row(told, frame or 0)
            frames = extra["row"]["frames"]
        if frame is not None:
            extra["frame"] = self._frame(frame, frames)
        extra["leaf"] = leaf.decode()
        size, note = _checkpoint(told, index)
        extra |= _authority(told, extra["vkey"], size)
        hashes = TileHashes(size, _tiles(told.log))
        proof = [hashes.root(first, last) for first, last in siblings(index, size)]
        if index != size - 1:
            spans = siblings(size - 1, size)
            path = [hashes.root(first, last).hex() for first, last in spans]
            extra["last"] = {"leaf": told.log.leaf(size - 1).decode(), "proof": path}
        lines = ["c2sp.org/tlog-proof@v1", f"extra {_text(canonical(extra))}", f"index {index}"]
        return ("\n".join([*lines, *map(_text, proof)]) + "\n\n").encode() + note

    # --- an open session --------------------------------------------------------------------------

    def _row(self, told: _Told, frame: int) -> tuple[int, bytes, dict[str, Any]]:
        """The newest progress that counts this frame: the leaf, and the row's own proof."""
        listed = self._listed({json.loads(leaf)["session"] for _, leaf in told.progress})
        for index, leaf in reversed(told.progress):
            fields = json.loads(leaf)
            rows = listed.get((fields["session"], fields["sequence"]), [])
            for at, (session, frames, root) in enumerate(rows):
                if session == self._session and frames > frame:
                    leaves = [row_leaf(session_bytes(s), n, bytes.fromhex(r)) for s, n, r in rows]
                    proof = _path(leaves, at, len(leaves))
                    return index, leaf, {"index": at, "frames": frames, "root": root,
                                         "proof": proof}  # fmt: skip
        raise Failed(f"session {self._session}: no progress counts its frame {frame} yet",
                     "it is signed within seconds: try again")  # fmt: skip

    def _listed(self, nodes: Iterable[str]) -> dict[tuple[str, int], list[Any]]:
        """The rows of the progress frames of these node sessions."""
        found = {}
        for node in nodes:
            for sequence, clear in self._record.clear_frames(node):
                meta = json.loads(clear[_CLEAR_BYTES:])
                if meta.get("event") == "progress":
                    found[node, sequence] = meta["sessions"]
        return found

    # --- one frame --------------------------------------------------------------------------------

    def _frame(self, wanted: int, frames: int) -> dict[str, Any]:
        """The frame's clear part, and its path in the session's tree of `frames` leaves."""
        found: tuple[int, bytes] | None = None
        for index, (sequence, clear) in enumerate(self._clear(frames)):
            if sequence == wanted:
                found = index, clear
        if found is None:
            raise Failed(f"session {self._session}: frame {wanted} is not among the {frames} that "
                         "are proved", "trailgate audit replay shows them")  # fmt: skip
        index, clear = found
        proof = _path((clear for _, clear in self._clear(frames)), index, frames)
        return {"index": index, "clear": _text(clear), "proof": proof}

    def _clear(self, frames: int) -> Iterator[tuple[int, bytes]]:
        for index, found in enumerate(self._record.clear_frames(self._session)):
            if index >= frames:
                return
            yield found


def _authority(told: _Told, vkey: str, size: int) -> dict[str, Any]:
    """The rotations to the key of a checkpoint of that size, and the certificates of that key."""
    rotations = [members for index, members in told.rotations if index < size]
    last = rotations[-1]["new"] if rotations else vkey
    certificates = [note for note in told.certificates if note.split("\n")[1:2] == [last]]
    found: dict[str, Any] = {"rotations": rotations, "certificates": certificates}
    return {name: value for name, value in found.items() if value}


def _checkpoint(told: _Told, index: int) -> tuple[int, bytes]:
    """What witnesses cosigned is worth more than what is newer."""
    cosigned = told.log.cosigned()
    if cosigned is not None and index < cosigned[0] <= told.size:
        return cosigned
    return told.size, told.note


def _tiles(log: StoredLog) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            return log.tile(name)
        except Gone as error:
            raise ShipFailed(f"{error}: is missing") from None

    return read


def _path(leaves: Iterable[bytes], index: int, size: int) -> list[str]:
    """The inclusion proof of one leaf (hex), in one pass that keeps only peaks."""
    spans = siblings(index, size)
    order, roots = sorted(spans), dict[tuple[int, int], bytes]()
    peaks: list[bytes] = []
    at = 0
    for number, leaf in enumerate(leaves):
        if number == index:
            continue
        first, last = order[at]
        tree.append(peaks, number - first, tree.leaf_hash(leaf))
        if number == last - 1:
            roots[first, last], peaks, at = tree.root(peaks), [], at + 1
    if len(roots) != len(spans):
        raise ValueError(f"there are fewer than {size} leaves")
    return [roots[span].hex() for span in spans]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
