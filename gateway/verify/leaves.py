# SPDX-License-Identifier: GPL-3.0-or-later
"""The leaves of a node's log: canonical JSON of known types, decoded strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_SESSION = re.compile(r"[a-z2-7]{26}")
_HASH = re.compile(r"[0-9a-f]{64}")
_RECIPIENT = re.compile(r"[a-z0-9-]+:[0-9a-f]{64}")


class LeafError(Exception):
    """The leaf is not what the format says; the text says why."""


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def _object_list(**members: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, list) and all(
            isinstance(item, dict)
            and item.keys() == members.keys()
            and all(fits(item[name]) for name, fits in members.items())
            for item in value
        )

    return check


_session, _hash = _matches(_SESSION), _matches(_HASH)
_wraps = _object_list(recipient=_matches(_RECIPIENT), sha256=_hash)
_TYPES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "start": {"node": _text, "log": _count, "version": _text, "readme": _hash, "vkey": _text},
    "stop": {"sessions": _count},
    "key.wrap": {"session": _session, "wraps": _wraps},
    "open": {
        "session": _session,
        "ordinal": _count,
        "kind": lambda value: value in ("session", "node", "grant"),
    },
    "segment": {
        "object": _text,
        "sha256": _hash,
        "bytes": _count,
        "frames": _count,
        "number": _count,
    },
    "close": {"session": _session, "frames": _count, "root": _hash, "reason": _text},
    "recovered": {
        "number": _count,
        "frames": _count,
        "gaps": _object_list(offset=_count, bytes=_count),
    },
    "gap": {"session": _session, "detail": _text},
    "progress": {"session": _session, "sequence": _count, "sessions": _count, "root": _hash},
    "heartbeat": {},
    "key.erase": {
        "session": _session,
        "reason": lambda value: value in ("asked", "expired"),
        "wraps": _wraps,
    },
    "legal_hold": {
        "name": _text,
        "state": lambda value: value in ("set", "lifted"),
        "targets": lambda value: isinstance(value, list) and all(map(_text, value)),
        "since": _text,
        "until": _text,
    },
    "retention": {"name": _text, "sessions": _count, "keys": _count},
    "policy": {"name": _text, "sha256": _hash},
    "config": {"kind": _text, "sha256": _hash},
    "certificate": {"note": _text},
    "rotation": {"old": _text, "new": _text, "by_old": _text, "by_new": _text},
    "retirement": {},
    "succession": {
        "log": _count,
        "source": lambda value: value in ("witness", "evidence", "none"),
        "note": _text,
    },
}


def canonical(value: Any) -> bytes:
    """The one encoding of a leaf. Raises ValueError on lone surrogates."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def parse_leaf(data: bytes) -> dict[str, Any]:
    """Decode one leaf. Raises LeafError."""
    try:
        leaf = json.loads(data)
        exact = canonical(leaf) == data
    except (ValueError, RecursionError):
        raise LeafError("is not JSON") from None
    if not exact or not isinstance(leaf, dict):
        raise LeafError("is not canonical JSON: encoding it again gives other bytes")
    members = _TYPES.get(str(leaf.get("type")))
    if members is None:
        raise LeafError(f"is of the type {leaf.get('type')!r}, which this verifier does not know")
    wrong = sorted(leaf.keys() ^ {"type", "at", *members})
    wrong += [name for name, fits in members.items() if name in leaf and not fits(leaf[name])]
    if not _matches(_AT)(leaf.get("at")):
        wrong.append("at")
    if wrong:
        raise LeafError(f"({leaf['type']}) has missing, unknown or wrong members: {wrong}")
    return leaf
