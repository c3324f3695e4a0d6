# SPDX-License-Identifier: GPL-3.0-or-later
"""What the leaves of one log say, taken in order; complaints where they contradict each other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

MOST_SILENCE = 150.0
"""Seconds between two leaves of a gateway that is alive: a heartbeat each 60, and some delay."""


def seconds_between(before: str, now: str) -> float:
    """Two times as leaves have them. Raises Contradiction for what is no time."""
    try:
        return (datetime.fromisoformat(now) - datetime.fromisoformat(before)).total_seconds()
    except ValueError:
        raise Contradiction("leaf", f"{now!r} or {before!r} is no time") from None


class Contradiction(Exception):
    """A leaf that cannot follow those before it. `kind` names the sort of defect."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Opened:
    ordinal: int
    index: int
    at: str
    kind: str


@dataclass(frozen=True, slots=True)
class Closed:
    frames: int
    root: str
    reason: str
    index: int
    at: str


@dataclass(frozen=True, slots=True)
class Shipped:
    """A segment leaf."""

    object: str
    sha256: str
    bytes: int
    frames: int
    number: int
    index: int
    at: str = ""


@dataclass(frozen=True, slots=True)
class Erased:
    """A key.erase leaf, and the legal holds that were in force then."""

    index: int
    reason: str
    holds: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Period:
    """A retention leaf: days that segments and keys are kept; 0: without end."""

    index: int
    sessions: int
    keys: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """A progress leaf: so many rows in a frame of the node's session, and their root."""

    sessions: int
    root: str
    index: int


@dataclass(slots=True)
class History:
    """One log's leaves, understood."""

    node: str
    number: int
    vkey: str
    readme: str = ""
    first_at: str = ""
    last_at: str = ""
    last_type: str = ""
    stops: int = -1
    """Index of the last stop leaf; -1: none."""
    opens: dict[str, Opened] = field(default_factory=dict)
    closes: dict[str, Closed] = field(default_factory=dict)
    segments: list[Shipped] = field(default_factory=list)
    wraps: dict[str, dict[str, str]] = field(default_factory=dict)
    """Session to {SHA-256 of the wrap: recipient}."""
    policies: dict[str, str] = field(default_factory=dict)
    erases: dict[str, Erased] = field(default_factory=dict)
    holds: dict[str, dict[str, Any]] = field(default_factory=dict)
    """In force, by name."""
    periods: list[Period] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    progress: dict[tuple[str, int], Progressed] = field(default_factory=dict)
    """By the node's session and the sequence of its frame."""
    certificates: list[str] = field(default_factory=list)
    rotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    succession: dict[str, Any] | None = None
    """The first leaf of a log that goes on for another one."""
    _numbers: set[int] = field(default_factory=set)
    _since_start: int = 0

    @property
    def stopped(self) -> bool:
        return self.last_type in ("stop", "retirement")

    @property
    def retired(self) -> bool:
        return self.last_type == "retirement"

    def take(self, index: int, leaf: dict[str, Any]) -> None:
        """One more leaf. Raises Contradiction."""
        kind = leaf["type"]
        before, self.last_type = self.last_type, kind
        self.first_at = self.first_at or leaf["at"]
        if before not in ("", "stop"):
            self._silence(self.last_at, leaf["at"])
        self.last_at = leaf["at"]
        self._in_order(index, before, kind)
        getattr(self, "_" + kind.replace(".", "_"))(index, leaf)

    def _in_order(self, index: int, before: str, kind: str) -> None:
        if before == "retirement":
            raise Contradiction("order", f"a leaf {kind!r} stands behind the retirement")
        if kind == "succession" and (index or not self.number):
            raise Contradiction("order", "a succession can only begin a log that has another one")
        if kind == "retirement" and before != "stop":
            raise Contradiction("order", "a retirement stands where the log was not stopped")
        begins = {"": ("start", "succession"), "succession": ("start",)}
        begins["stop"] = ("start", "retirement")
        if before in begins and kind not in begins[before]:
            raise Contradiction("order", f"a leaf {kind!r} stands where only a start may")

    def _silence(self, before: str, now: str) -> None:
        """A gateway that is alive is heard of each minute."""
        if before[:16] == now[:16]:
            return
        seconds = seconds_between(before, now)
        if seconds > MOST_SILENCE:
            detail = f"no sign of life for {seconds:.0f} seconds"
            self.gaps.append({"since": before, "until": now, "detail": detail})

    def _start(self, index: int, leaf: dict[str, Any]) -> None:
        self.readme, self._since_start = leaf["readme"], 0
        if (leaf["node"], leaf["log"]) != (self.node, self.number):
            raise Contradiction("order", f"starts {leaf['node']}/{leaf['log']}: another log")
        if leaf["vkey"].strip() != self.vkey:
            raise Contradiction("key", "the start names another key than node.vkey")

    def _stop(self, index: int, leaf: dict[str, Any]) -> None:
        self.stops = index

    def _key_wrap(self, index: int, leaf: dict[str, Any]) -> None:
        kept = self.wraps.setdefault(leaf["session"], {})
        for wrap in leaf["wraps"]:
            kept[wrap["sha256"]] = wrap["recipient"]

    def _open(self, index: int, leaf: dict[str, Any]) -> None:
        session, expected = leaf["session"], len(self.opens)
        if session in self.opens:
            raise Contradiction("session", f"session {session} is opened twice")
        self.opens[session] = Opened(leaf["ordinal"], index, leaf["at"], leaf["kind"])
        self._since_start += 1
        if leaf["ordinal"] != expected:
            raise Contradiction(
                "ordinal",
                f"session {session} has the ordinal {leaf['ordinal']}, not {expected}: "
                "a session was left out or invented",
            )

    def _close(self, index: int, leaf: dict[str, Any]) -> None:
        session = leaf["session"]
        if session not in self.opens or session in self.closes:
            why = "twice" if session in self.closes else "but never opened"
            raise Contradiction("session", f"session {session} is closed {why}")
        self.closes[session] = Closed(
            leaf["frames"], leaf["root"], leaf["reason"], index, leaf["at"]
        )

    def _segment(self, index: int, leaf: dict[str, Any]) -> None:
        pattern = rf"seg/{re.escape(self.node)}/\d{{8}}/{leaf['sha256']}"
        if not re.fullmatch(pattern, leaf["object"]):
            raise Contradiction("segment", f"{leaf['object']!r} is no name for that segment")
        if leaf["number"] in self._numbers:
            raise Contradiction("segment", f"journal file {leaf['number']} is named twice")
        self._numbers.add(leaf["number"])
        members = {name: value for name, value in leaf.items() if name != "type"}
        self.segments.append(Shipped(index=index, **members))

    def _recovered(self, index: int, leaf: dict[str, Any]) -> None:
        for gap in leaf["gaps"]:
            self.gaps.append({"journal": leaf["number"], **gap})

    def _gap(self, index: int, leaf: dict[str, Any]) -> None:
        self.gaps.append({"session": leaf["session"], "detail": leaf["detail"]})

    def _progress(self, index: int, leaf: dict[str, Any]) -> None:
        session, key = leaf["session"], (leaf["session"], leaf["sequence"])
        if session not in self.opens or session in self.closes or key in self.progress:
            raise Contradiction("progress", f"progress in session {session}: closed or told twice")
        self.progress[key] = Progressed(leaf["sessions"], leaf["root"], index)

    def _key_erase(self, index: int, leaf: dict[str, Any]) -> None:
        session = leaf["session"]
        if session in self.opens and session not in self.closes:
            raise Contradiction("session", f"the key of {session} is erased while it is open")
        wraps = {wrap["sha256"]: wrap["recipient"] for wrap in leaf["wraps"]}
        if session in self.wraps and wraps != self.wraps[session]:
            raise Contradiction("session", f"erases other wraps of {session} than there were")
        # A leaf that is made again after a kill says the same: the first one counts.
        held = tuple(self.holds.values())
        self.erases.setdefault(session, Erased(index, leaf["reason"], held))

    def _legal_hold(self, index: int, leaf: dict[str, Any]) -> None:
        if leaf["state"] == "set":
            self.holds[leaf["name"]] = leaf
        else:
            self.holds.pop(leaf["name"], None)

    def _retention(self, index: int, leaf: dict[str, Any]) -> None:
        self.periods.append(Period(index, leaf["sessions"], leaf["keys"]))

    def retention_at(self, index: int) -> Period:
        """What was in force when leaf `index` was signed."""
        known = [one for one in self.periods if one.index < index]
        return known[-1] if known else Period(-1, 0, 0)

    def _heartbeat(self, index: int, leaf: dict[str, Any]) -> None:
        """Only its time matters."""

    def _config(self, index: int, leaf: dict[str, Any]) -> None:
        """The frame that it is the digest of stands in the node's own record."""

    def _certificate(self, index: int, leaf: dict[str, Any]) -> None:
        self.certificates.append(leaf["note"])

    def _rotation(self, index: int, leaf: dict[str, Any]) -> None:
        self.rotations[index] = leaf
        self.vkey = leaf["new"]

    def _retirement(self, index: int, leaf: dict[str, Any]) -> None:
        """It ends the log; the order of leaves is checked with each of them."""

    def _succession(self, index: int, leaf: dict[str, Any]) -> None:
        self.succession = leaf

    def _policy(self, index: int, leaf: dict[str, Any]) -> None:
        self.policies[leaf["sha256"]] = leaf["name"]
