# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the record is kept: `retention`, and what must not go meanwhile: `legal_hold`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from gateway.config.reading import Wrong
from gateway.config.values import ObjectName
from gateway.record.declared import Hold, Retention

MOST_DAYS = 36_500
_LEAF_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class Days(int):
    """`400d`: whole days, at least one."""

    @classmethod
    def parse(cls, text: str) -> Self:
        found = re.fullmatch(r"([0-9]{1,6})d", text)
        if found is None or not 1 <= int(found[1]) <= MOST_DAYS:
            raise Wrong(f"{text!r} is no period; write whole days, 1d to {MOST_DAYS}d")
        return cls(found[1])


class Moment(str):
    """A date, or RFC 3339; kept as it was written."""

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            _instant(text)
        except ValueError:
            raise Wrong(f"{text!r} is no time; write 2026-11-24 or 2026-11-24T12:00:00Z") from None
        return cls(text)

    @property
    def first(self) -> str:
        """As leaves have times: the first moment that it names. Empty for an empty one."""
        return _instant(self).strftime(_LEAF_TIME) if self else ""

    @property
    def last(self) -> str:
        """The last moment that it names: a date is its whole day (UTC)."""
        if not self:
            return ""
        whole = timedelta(days=1, microseconds=-1) if len(self) == len("2026-11-24") else None
        return (_instant(self) + (whole or timedelta())).strftime(_LEAF_TIME)


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class RetentionObject:
    """`retention: NAME`: how long the record is kept."""

    retention: ObjectName
    sessions: Days
    keys: Days

    def __post_init__(self) -> None:
        if self.keys > self.sessions:
            raise Wrong(
                f"{int(self.keys)} days are more than those of sessions; a key outlives nothing "
                "that it opens",
                "keys",
            )

    def declared(self) -> Retention:
        return Retention(self.retention, int(self.sessions), int(self.keys))


@dataclass(frozen=True, slots=True)
class HeldSessions:
    """Which sessions a hold covers: those on the targets that were open in the interval."""

    targets: tuple[str, ...] = ()
    from_: Moment = Moment("")
    to: Moment = Moment("")

    def __post_init__(self) -> None:
        if self.from_ and self.to and self.from_.first > self.to.last:
            raise Wrong(f"{self.to} is before {self.from_}; write the later one as to", "to")


@dataclass(frozen=True, slots=True)
class LegalHoldObject:
    """`legal_hold: NAME`: no key of the sessions that it covers is erased while it is there."""

    legal_hold: ObjectName
    sessions: HeldSessions

    def declared(self) -> Hold:
        held = self.sessions
        return Hold(self.legal_hold, held.targets, held.from_.first, held.to.last)
