# SPDX-License-Identifier: GPL-3.0-or-later
"""What the grants on a path leave: authorization_details (RFC 9396) and scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.policy.documents import Selector
from gateway.policy.languages.sql.analysis import Unit
from gateway.policy.languages.sql.kinds import WORDS
from gateway.policy.matching import Scope, like, uncovered

_KEYS = ("kinds", "reads", "writes", "functions")
_ELEMENT = ("type", "targets", "sql", "shell", "exec", "kubernetes", "http", "mcp", "redis")


def outside(
    entries: Iterable[Mapping[str, Any]], target: str, units: Iterable[Unit], scope: Scope
) -> str | None:
    """What of `units` some entry does not cover, in words; None if every entry covers all."""
    for entry in entries:
        names = entry.get("scope")
        if names is not None and target not in (names.split() if isinstance(names, str) else names):
            return f"target {target} is outside the grant's scope"
        details = entry.get("authorization_details")
        if details is None:
            continue
        allows = [s for s in (_selector(element, target) for element in details) if s]
        if not allows:
            return f"the grant leaves nothing on {target}"
        for unit in units:
            if (left := uncovered(unit, allows, scope)) is not None:
                return f"{left} is outside the grant"
    return None


def complaint(details: Iterable[Any]) -> str | None:
    """What is wrong with authorization_details that somebody asks for; None if nothing.

    What is wrong would allow nothing later on (see `outside`); whoever asks is told at once.
    """
    for number, element in enumerate(details):
        if (wrong := _wrong(element)) is not None:
            return f"element {number}: {wrong}"
    return None


def _wrong(element: Any) -> str | None:
    if not isinstance(element, Mapping) or element.get("type") != "trailgate":
        return 'an element is an object with "type": "trailgate"'
    if unknown := sorted(set(element) - set(_ELEMENT)):
        return f"unknown member {unknown[0]!r}; known are {', '.join(_ELEMENT)}"
    if "targets" in element and not _words(element["targets"]):
        return "targets is a list of names"
    sql = element.get("sql", {})
    if not isinstance(sql, Mapping):
        return "sql is an object of selectors"
    if unknown := sorted(set(sql) - set(_KEYS)):
        return f"unknown selector {unknown[0]!r} in sql; known are {', '.join(_KEYS)}"
    if unread := sorted(key for key, value in sql.items() if not _words(value)):
        return f"sql.{unread[0]} is a list of words"
    strange = sorted(set(sql.get("kinds", ())) - set(WORDS))
    return f"sql.kinds: {strange[0]!r} is no kind of statement" if strange else None


def _selector(element: Any, target: str) -> Selector | None:
    """None for an element that gives nothing here, one that is not understood among them."""
    if not isinstance(element, Mapping) or element.get("type") != "trailgate":
        return None
    if set(element) - set(_ELEMENT):  # a key that narrows in a way we do not know
        return None
    if "targets" in element and not (
        _words(element["targets"]) and like(target, element["targets"])
    ):
        return None
    sql = element.get("sql")
    if not isinstance(sql, Mapping) or set(sql) - set(_KEYS):
        return None
    if not all(_words(value) for value in sql.values()):
        return None
    return Selector(**{key: tuple(words) for key, words in sql.items()})


def _words(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
