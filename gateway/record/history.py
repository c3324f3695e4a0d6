# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes' logs say of sessions. It is read, not proved: proving is the verifier's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.record.places import Gone, Place

_BUNDLE = re.compile(
    r"(?P<log>log/(?P<node>[^/]+)/(?P<number>\d+))/tile/entries/"
    r"(?P<index>(?:x\d{3}/)*\d{3})(?:\.p/(?P<width>\d+))?"
)
_MOST_BUNDLE = 256 * (2 + 65535)


@dataclass(frozen=True, slots=True)
class OpenLeaf:
    at: str
    kind: str
    log: str
    node: str


@dataclass(frozen=True, slots=True)
class CloseLeaf:
    at: str
    reason: str
    frames: int


@dataclass(slots=True)
class History:
    """Opens and closes by session, over all logs."""

    opens: dict[str, OpenLeaf] = field(default_factory=dict)
    closes: dict[str, CloseLeaf] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    """Sessions whose key was erased, or is about to be."""
    _stopped: set[str] = field(default_factory=set)
    """Sessions without a close whose log was stopped afterwards."""
    _latest: dict[str, int] = field(default_factory=dict)
    """The newest log of each node."""

    def ended(self, session_id: str) -> bool:
        """The session's log ended without an end of the session."""
        leaf = self.opens.get(session_id)
        if leaf is None:
            return False
        superseded = int(leaf.log.rpartition("/")[2]) < self._latest.get(leaf.node, 0)
        return superseded or session_id in self._stopped

    def take(self, log: str, node: str, leaf: dict[str, Any]) -> None:
        """One leaf, in its log's order. What is malformed is passed over."""
        kind, session = leaf.get("type"), leaf.get("session")
        at = str(leaf.get("at", ""))
        if kind == "stop":
            self._stopped |= {
                one
                for one, opened in self.opens.items()
                if opened.log == log and one not in self.closes
            }
        elif not isinstance(session, str):
            return
        elif kind == "key.erase":
            self.erased.add(session)
        elif kind == "open":
            self.opens[session] = OpenLeaf(at, str(leaf.get("kind")), log, node)
        elif kind == "close":
            frames = leaf.get("frames")
            count = frames if isinstance(frames, int) else 0
            self.closes[session] = CloseLeaf(at, str(leaf.get("reason")), count)

    def log_seen(self, node: str, number: int) -> None:
        self._latest[node] = max(number, self._latest.get(node, 0))


def read_history(evidence: Place) -> History:
    """Read all logs. Raises Unreadable; Gone where a live gateway writes: read again."""
    history = History()
    bundles: dict[tuple[str, int, int], tuple[int, str]] = {}
    for name in evidence.names("log/"):
        found = _BUNDLE.fullmatch(name)
        if found is None:
            continue
        index = int(found["index"].replace("x", "").replace("/", ""))
        place = (found["node"], int(found["number"]), index)
        # Several widths of one partial bundle may lie there; the widest has all.
        bundles[place] = max(bundles.get(place, (0, "")), (int(found["width"] or 256), name))
    for (node, number, _), (_, name) in sorted(bundles.items()):
        history.log_seen(node, number)
        for leaf in _leaves(_whole(evidence, name)):
            history.take(f"{node}/{number}", node, leaf)
    return history


def _whole(evidence: Place, name: str) -> bytes:
    """A bundle; a partial one that a live gateway removed meanwhile may have its full width now.

    Raises Gone where it grew otherwise: then all is to be read again.
    """
    try:
        return evidence.read(name, 0, _MOST_BUNDLE)
    except Gone:
        return evidence.read(name.partition(".p/")[0], 0, _MOST_BUNDLE)


def _leaves(bundle: bytes) -> Iterator[dict[str, Any]]:
    """C2SP tlog-tiles: a big-endian uint16 length in front of each entry."""
    at = 0
    while at + 2 <= len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        try:
            leaf = json.loads(bundle[at + 2 : end])
        except (ValueError, RecursionError):
            leaf = None
        if isinstance(leaf, dict):
            yield leaf
        at = end
