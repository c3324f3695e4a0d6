# SPDX-License-Identifier: GPL-3.0-or-later
"""When a rule speaks: CEL expressions, and windows of days and hours in a time zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import cel

_SOMEBODY = {"name": "", "proved": False, "isolation": "none"}
_SAMPLE: Mapping[str, Any] = {
    "subject": "",
    "groups": [],
    "chain": [_SOMEBODY],
    "actor": _SOMEBODY,
    "target": {"name": "", "labels": {}, "protocol": "", "user": ""},
    "now": 0.0,
    "ticket": "",
    "request": {},
}
"""The names that a condition may speak of, as `decide` fills them."""
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class ConditionFailed(Exception):
    """A condition gives neither true nor false: what it belongs to is denied."""


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
    """A CEL program. Raises ValueError, also for a name that no operation has."""
    try:
        program = cel.compile(text)
    except Exception as exc:  # the binding raises what its parser raises
        raise ValueError(str(exc).splitlines()[0]) from None
    failure = _tried(program, _SAMPLE)[1]
    if "Undefined variable or function" in failure:
        raise ValueError(failure.partition(": ")[2].split(". ")[0])
    return program


def true(program: Any, variables: Mapping[str, Any]) -> bool:
    """Evaluate to true or false. Raises ConditionFailed."""
    result, failure = _tried(program, variables)
    if failure:
        raise ConditionFailed(f"the condition cannot be evaluated ({failure.split(':')[0]})")
    if not isinstance(result, bool):
        raise ConditionFailed("the condition is neither true nor false")
    return result


def _tried(program: Any, variables: Mapping[str, Any]) -> tuple[Any, str]:
    """The result, and why there is none."""
    context = cel.Context(dict(variables))
    # No approval opens a window in this version, so that none is ever open.
    context.add_function("window", lambda _name: False)
    try:
        return program.execute(context), ""
    except Exception as exc:  # an unknown name, a missing key, a wrong type: all of them deny
        return None, f"{type(exc).__name__}: {exc}"
