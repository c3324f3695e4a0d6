# SPDX-License-Identifier: GPL-3.0-or-later
"""Events in the metadata of frames, as a reader meets them: anything may stand there."""

from __future__ import annotations

from typing import Any

_NUMBERS = {"ask": ("op", "start", "end"), "done": ("op", "start", "end")}


def sound_event(event: Any) -> bool:
    """Whether an event has what is read of it, in the types that it is read as."""
    if not isinstance(event, dict):
        return False
    numbers = _NUMBERS.get(str(event.get("ev")), ())
    if any(type(event.get(name)) is not int for name in numbers):
        return False
    by, decision = event.get("prepared_by"), event.get("decision", {})
    if not isinstance(decision, dict) or not isinstance(decision.get("clear") or {}, dict):
        return False
    return by is None or type(by) is int
