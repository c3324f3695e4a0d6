# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's backends on a server, by the record: process id, and when each was in use.

They lie in a private database of SQLite's on disk, so that memory does not grow with the record.
"""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.admin.cli._activities import moment
from gateway.admin.cli._reading import Recorded
from gateway.model import RecordedFrame

TOLERANCE_SECONDS = 2.0
"""Of the server's whole seconds, and of clocks that were set right meanwhile."""
_FIRST_FRAMES = 64
"""The target's process id stands in one of these."""
_FOREVER = float(1 << 40)


@dataclass(frozen=True, slots=True)
class Backend:
    """Seconds since the Unix epoch by the gateway's clock; `let_in`: the login there was over."""

    number: int
    session: str
    pid: int
    opened: float
    let_in: float
    ended: float


class Backends:
    """What the record says; `clock` is added to the server's times, see `measure`."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute(
            "CREATE TABLE backend (number INTEGER PRIMARY KEY, session TEXT, pid INTEGER,"
            " opened REAL, let_in REAL, ended REAL, claim REAL)"
        )
        self.clock = 0.0
        self.first = _FOREVER
        """When the first gateway of this record started."""
        self.count = 0

    def close(self) -> None:
        self._database.close()

    def fill(self, recorded: Recorded, target: str | None) -> None:
        """Read every session's process id. Raises Failed."""
        rows = [*self._sessions(recorded, target), *self._of_nodes(recorded, target)]
        self.add(rows)

    def add(self, rows: Iterable[tuple[str, int, float, float, float]]) -> None:
        """(session, process id, opened, let in, ended)."""
        with self._database:
            done = self._database.executemany(
                "INSERT INTO backend (session, pid, opened, let_in, ended) VALUES (?, ?, ?, ?, ?)",
                rows,
            )
            self.count += max(0, done.rowcount)
            self._database.execute("CREATE INDEX IF NOT EXISTS by_pid ON backend (pid, opened)")

    def _sessions(
        self, recorded: Recorded, target: str | None
    ) -> Iterator[tuple[str, int, float, float, float]]:
        for listed in recorded.listed():
            one = listed.document
            opened, ended = moment(one["opened"]), moment(one["closed"])
            if opened is not None:
                self.first = min(self.first, opened.timestamp())
            if opened is None or (target is not None and one["target"] != target):
                continue
            for pid, let_in in _let_in(recorded.frames(one["id"])):
                end = ended.timestamp() if ended is not None else _FOREVER
                yield one["id"], pid, opened.timestamp(), let_in, end

    def _of_nodes(
        self, recorded: Recorded, target: str | None
    ) -> Iterator[tuple[str, int, float, float, float]]:
        """Logins of the gateway's own, which nobody asked anything by."""
        for node in recorded.nodes():
            for frame in recorded.frames(node):
                at = frame.wall_ns / 1e9
                self.first = min(self.first, at)
                if frame.meta.get("event") == "reached":
                    pid, where = frame.meta.get("pid"), frame.meta.get("target")
                    if type(pid) is int and target in (None, where):
                        yield node, pid, at - 60, at, at + TOLERANCE_SECONDS

    # --- questions of the log ---------------------------------------------------------------------

    def measure(self, hints: Iterable[tuple[str, int, float]]) -> None:
        """Set `clock` by (session's id, process id, when it was let in by the server's clock).

        The id comes from an application name, which anybody may set: so it is only a hint, of
        which the middle one counts, and only with the process id that the record has for it.
        """
        found = []
        for session, pid, at in hints:
            row = self._database.execute(
                "SELECT let_in FROM backend WHERE session = ? AND pid = ?", (session, pid)
            ).fetchone()
            if row is not None:
                found.append(row[0] - at)
        self.clock = statistics.median(found) if found else 0.0

    def begun(self, pid: int, started: float) -> Backend | None:
        """The one that began then by the server's clock, and that no other log session is."""
        at = started + self.clock
        row = self._database.execute(
            "SELECT number, session, pid, opened, let_in, ended FROM backend"
            " WHERE pid = ? AND opened - ? <= ? AND let_in + ? >= ?"
            " AND (claim IS NULL OR claim = ?)"
            " ORDER BY abs(let_in - ?) LIMIT 1",
            (pid, TOLERANCE_SECONDS + 1, at, TOLERANCE_SECONDS, at, started, at),
        ).fetchone()
        if row is None:
            return None
        with self._database:
            self._database.execute(
                "UPDATE backend SET claim = ? WHERE number = ?", (started, row[0])
            )
        return Backend(*row)

    def running(self, pid: int, at: float) -> Backend | None:
        """The one that was in use then, where the log does not tell when its backends began."""
        now = at + self.clock
        row = self._database.execute(
            "SELECT number, session, pid, opened, let_in, ended FROM backend"
            " WHERE pid = ? AND opened - ? <= ? AND ended + ? >= ? ORDER BY opened DESC LIMIT 1",
            (pid, TOLERANCE_SECONDS, now, TOLERANCE_SECONDS, now),
        ).fetchone()
        return Backend(*row) if row is not None else None

    def covers(self, one: Backend, at: float) -> bool:
        """Whether this one was in use at that time by the server's clock."""
        now = at + self.clock
        return one.opened - TOLERANCE_SECONDS <= now <= one.ended + TOLERANCE_SECONDS


def _let_in(frames: Iterator[RecordedFrame]) -> Iterator[tuple[int, float]]:
    for number, frame in enumerate(frames):
        for event in frame.meta.get("events", ()):
            if event.get("ev") == "backend" and type(event.get("pid")) is int:
                yield event["pid"], frame.wall_ns / 1e9
                return
        if number > _FIRST_FRAMES:
            return
