# SPDX-License-Identifier: GPL-3.0-or-later
"""When a rule speaks: CEL expressions, and windows of days and hours in a time zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import cel

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of some days; one that ends before it begins goes past midnight."""

    days: tuple[int, ...]
    begin: time
    end: time
    zone: ZoneInfo

    def holds(self, now: float) -> bool:
        """True at `now`, seconds since the epoch."""
        local = datetime.fromtimestamp(now, UTC).astimezone(self.zone)
        clock, day = local.time(), local.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= clock < self.end
        if clock >= self.begin:
            return day in self.days
        before = (local - timedelta(days=1)).weekday()
        return clock < self.end and before in self.days


def window_of(days: tuple[str, ...] | None, **texts: str) -> Window:
    """From a document's words. Raises ValueError or KeyError (an unknown zone)."""
    for day in days or ():
        if day not in _DAYS:
            raise ValueError(f"`{day}` is not a day; days are {', '.join(_DAYS)}")
    begin = time.fromisoformat(texts["from"] or "00:00")
    end = time.fromisoformat(texts["to"] or "00:00")
    numbers = tuple(_DAYS.index(day) for day in days or _DAYS)
    return Window(numbers, begin, end, ZoneInfo(texts["zone"] or "UTC"))


def compiled(text: str) -> Any:
    """A CEL program. Raises ValueError."""
    return cel.compile(text)


def true(program: Any, variables: Mapping[str, Any]) -> bool:
    """Evaluate to true or false. Raises ValueError if it gives neither, or cannot be evaluated."""
    context = cel.Context(dict(variables))
    # No approval opens a window in this version, so that none is ever open.
    context.add_function("window", lambda _name: False)
    try:
        result = program.execute(context)
    except (ValueError, TypeError, RuntimeError) as exc:
        raise ValueError(f"the condition cannot be evaluated ({type(exc).__name__})") from None
    if not isinstance(result, bool):
        raise ValueError("the condition is neither true nor false")
    return result
