# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's log against the gateway's backends: what belongs to none of them."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.admin.cli.audit._backends import Backend, Backends
from gateway.protocols.postgresql.server_log import Entry, Kind

MOST_BACKENDS = 100_000
"""Of the server, remembered at the same time."""
MOST_HINTS = 2000
_NOT_IN_YET = (Kind.RECEIVED, Kind.PROVED)
_NAMED = re.compile(r"([a-z2-7]{26})(?: |$)")


@dataclass(slots=True)
class _Seen:
    """A backend as the log tells of it. `began`: seconds by the server's clock; None: unknown."""

    began: float | None
    ours: Backend | None
    let_in: bool = False
    told: bool = False
    last: str = ""


def hints(entries: Iterable[Entry]) -> Iterator[tuple[str, int, float]]:
    """Application names that begin with a session's id, at the first line that has them."""
    seen: set[tuple[str, int]] = set()
    for entry in entries:
        named = _NAMED.match(entry.application or "")
        if named is None or (named[1], entry.pid) in seen:
            continue
        seen.add((named[1], entry.pid))
        yield (
            named[1],
            entry.pid,
            entry.at if entry.kind is Kind.LOGIN else entry.started or entry.at,
        )
        if len(seen) == MOST_HINTS:
            return


@dataclass(slots=True)
class Matching:
    """Takes entries in a log's order; `matched` counts those of the gateway's backends."""

    backends: Backends
    matched: int = 0
    refused: int = 0
    """Logins that the server itself refused: nothing got in there."""
    _seen: OrderedDict[int, _Seen] = field(default_factory=OrderedDict)

    def take(self, entry: Entry) -> bool:
        """Whether this entry reached the server past the gateway."""
        seen = self._of(entry)
        if entry.kind is Kind.REFUSED and seen.ours is None and not seen.let_in:
            self.refused += 1
            seen.told = True
            return False
        if entry.kind is Kind.LOGIN:
            seen.let_in = True
        if seen.ours is not None:
            self.matched += entry.kind in (Kind.LOGIN, Kind.STATEMENT)
            return False
        return self._past(entry, seen)

    def _past(self, entry: Entry, seen: _Seen) -> bool:
        if entry.kind is Kind.STATEMENT:
            again = entry.of_error and entry.text == seen.last
            seen.last, seen.told = entry.text, True
            return not again
        if entry.kind is Kind.LOGIN:
            seen.told = True
            return True
        if entry.kind in _NOT_IN_YET or seen.told or not entry.of_client:
            return False
        # A client's backend of which the log tells nothing else, as where it begins in the middle.
        seen.told = True
        return True

    def _of(self, entry: Entry) -> _Seen:
        seen = self._seen.get(entry.pid)
        if seen is None or self._is_another(entry, seen):
            seen = self._new(entry)
        self._seen[entry.pid] = seen
        self._seen.move_to_end(entry.pid)
        if entry.kind is Kind.GONE:
            del self._seen[entry.pid]
        elif len(self._seen) > MOST_BACKENDS:
            self._seen.popitem(last=False)
        return seen

    def _is_another(self, entry: Entry, seen: _Seen) -> bool:
        """The same process id once more, of another process."""
        if entry.started is not None:
            return entry.started != seen.began
        if entry.kind is Kind.RECEIVED or (entry.kind is Kind.LOGIN and seen.let_in):
            return True
        guessed = seen.ours if seen.began is None else None
        return guessed is not None and not self.backends.covers(guessed, entry.at)

    def _new(self, entry: Entry) -> _Seen:
        began = entry.started
        if began is None and entry.kind in (Kind.RECEIVED, Kind.LOGIN):
            began = entry.at
        if began is not None:
            return _Seen(began, self.backends.begun(entry.pid, began))
        return _Seen(None, self.backends.running(entry.pid, entry.at))
