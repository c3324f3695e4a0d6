# SPDX-License-Identifier: GPL-3.0-or-later
"""The record against its own operator: cosignatures, silence, and what others were shown."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

from gateway.verify.cosigned import origin_of
from gateway.verify.findings import CannotCheck, Findings
from gateway.verify.history import MOST_SILENCE, Contradiction, seconds_between
from gateway.verify.log import MOST_NOTE, LogReader, LogReading
from gateway.verify.note import cosigned_at, parse_note
from gateway.verify.source import Missing, Source
from gateway.verify.trust import SEEN, Trust

MOST_UNWITNESSED = 300.0
"""Seconds of the log's end that a witness may not have cosigned yet."""
_NOTE = r"/(?:checkpoint|(?:checkpoints|cosigned)/\d+)"


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _between(before: str, now: str) -> float:
    try:
        return seconds_between(before, now)
    except Contradiction:
        return 0.0


class Witnessing:
    """Whether what lies here is all that the witnesses saw, and reaches to the time asked for."""

    def __init__(self, findings: Findings, trust: Trust | None, as_of: str | None) -> None:
        self._findings = findings
        self._trust = trust
        self._as_of = as_of

    def check(self, logs: list[LogReading]) -> None:
        """Note what is wrong, and `witnessed_to`."""
        newest: dict[str, int] = {}
        for log in logs:
            newest[log.history.node] = max(log.history.number, newest.get(log.history.node, 0))
        reached = [self._log(log) for log in logs if log.sound]
        if reached and None not in reached and len(reached) == len(logs):
            self._findings.witnessed_to = min(one for one in reached if one is not None)
        for log in logs:
            if log.sound and log.history.number == newest[log.history.node]:
                self._silent(log)
        for log in logs:
            self._seen(log)
        self._unseen(logs)

    def _log(self, log: LogReading) -> str | None:
        if self._trust is None or self._trust.quorum is None:
            return None
        at, behind = self._witnessed(log), ""
        if at is None:
            behind = f"{log.path}: no checkpoint has the cosignatures of the quorum"
        elif _between(at, log.history.last_at) > MOST_UNWITNESSED:
            behind = f"{log.path}: witnessed to {at} only, and goes on to {log.history.last_at}"
        if behind:
            self._findings.unresolved.append(
                behind + ": compare it with what the witness saw (--trust WITNESS-FOLDER)"
            )
        return at

    def _witnessed(self, log: LogReading) -> str | None:
        good = [one for one in log.cosigned if one.witnessed_at is not None]
        if not good:
            return None
        last = max(good, key=lambda one: one.checkpoint.size)
        assert last.witnessed_at is not None
        # A leaf's time is what the operator says, a cosignature's is the witness's.
        told = log.times.get(last.checkpoint.size, "")
        return min(told, _text(min(last.witnessed_at + 1.0, time.time())))

    def _silent(self, log: LogReading) -> None:
        if log.history.stopped or not log.history.last_at:
            return
        watched = self._trust is not None and self._trust.quorum is not None
        until = self._as_of or (_text(time.time()) if watched else None)
        if until is None or _between(log.history.last_at, until) <= MOST_SILENCE:
            return
        detail = f"was not stopped, yet nothing in it is later than {log.history.last_at}"
        if self._as_of:
            self._findings.defect(log.path, "silent", detail)
        else:
            cure = "if this is a copy, say from when: --as-of TIME"
            self._findings.unresolved.append(f"{log.path}: {detail}; {cure}")

    def _seen(self, log: LogReading) -> None:
        for detail in log.forks:
            self._findings.defect(log.path, "rewritten", detail)
        if log.size < log.ahead <= log.cited:
            # The log that goes on for this one says itself how much its node had.
            leaves = f"leaves {log.size} to {log.cited - 1}"
            self._findings.lost.append(f"{log.path}: {leaves}, which its witness saw")
        elif log.ahead > log.size:
            detail = f"has {log.size} leaves; the witness saw {log.ahead}: its end was removed"
            if self._as_of and self._seen_later(log):
                detail = f"{log.path}: the witness saw {log.ahead} leaves, after {self._as_of}"
                self._findings.unresolved.append(f"{detail}: verify a newer copy")
            else:
                self._findings.defect(log.path, "cut", detail)

    def _seen_later(self, log: LogReading) -> bool:
        """Whether the witness cosigned what it saw last after the time asked for."""
        assert self._trust is not None
        origin, times = f"trailgate/{log.history.node}/{log.history.number}", [0]
        for data in (data for data in self._trust.seen if origin_of(data) == origin):
            note = parse_note(data)
            for name, signature in note.signatures:
                for key in self._trust.witnesses.values():
                    if (key.name, key.hash) == (name, signature[:4]):
                        times.append(cosigned_at(note.body, signature, key))
        return _text(max(times)) > (self._as_of or "~")

    def _unseen(self, logs: list[LogReading]) -> None:
        found = {f"trailgate/{log.history.node}/{log.history.number}" for log in logs}
        known = set(self._trust.logs) if self._trust else set()
        for note in self._trust.seen if self._trust else []:
            origin = origin_of(note)
            if origin not in found | known:
                detail = f"the witness saw a log {origin}, which is not here"
                self._findings.defect("log", "missing", detail)


def other_view(
    other: Source, place: Path, source: Source, logs: list[LogReading]
) -> list[tuple[str, str]]:
    """(log, detail) of every log that is not the beginning of the other's, nor the reverse.

    Raises CannotCheck, OSError.
    """
    folder = place / SEEN
    if folder.is_dir():
        seen = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        notes = [path.read_bytes()[:MOST_NOTE] for path in seen]
        return _against(notes, source, logs)
    found = _against(_notes(other), source, logs)
    # Where this view is the shorter one, its heads are looked for in the other.
    names = list(other.names())
    for log in logs:
        inside = [name for name in names if name.startswith(log.path + "/")]
        theirs = LogReader(other, log.path, inside, None, _notes(source, log.path)).read()
        if inside and theirs.history.vkey == log.history.vkey:
            found += [(log.path, detail) for detail in theirs.forks]
    return found


def _against(notes: list[bytes], source: Source, logs: list[LogReading]) -> list[tuple[str, str]]:
    if not notes:
        raise CannotCheck("there is no checkpoint to compare with")
    found, names = [], list(source.names())
    for log in logs:
        inside = [name for name in names if name.startswith(log.path + "/")]
        ours = LogReader(source, log.path, inside, None, notes).read()
        found += [(log.path, detail) for detail in ours.forks]
    return found


def _notes(source: Source, log: str = r"log/[^/]+/\d+") -> list[bytes]:
    notes = []
    for name in source.names():
        if re.fullmatch(log + _NOTE, name):
            try:
                notes.append(source.read(name, MOST_NOTE))
            except (Missing, ValueError):
                continue
    return notes
