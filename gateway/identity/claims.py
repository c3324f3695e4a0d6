# SPDX-License-Identifier: GPL-3.0-or-later
"""Verified claims to subject, name and groups, by each issuer's own mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.identity.refusal import refused

GROUPS_CAP = 1000
TEXT_CAP = 1024


def lookup(claims: Mapping[str, Any], path: str) -> object:
    """A claim by its name, or by a dotted path into nested objects; None if absent.

    A claim whose name holds dots (`https://example.com/groups`, `kubernetes.io.namespace`) is found
    by its whole name: of several ways to read a path, the one with the longest first name counts.
    """
    if path in claims:
        return claims[path]
    end = path.rfind(".")
    while end > 0:
        inner = claims.get(path[:end])
        if isinstance(inner, Mapping):
            found = lookup(inner, path[end + 1 :])
            if found is not None:
                return found
        end = path.rfind(".", 0, end)
    return None


def text_claim(claims: Mapping[str, Any], path: str) -> str:
    """A claim that must be one non-empty string."""
    value = lookup(claims, path)
    if not isinstance(value, str) or not value or len(value) > TEXT_CAP or not value.isprintable():
        raise refused(
            "the token lacks the claim that names its subject",
            f"claim {path!r} is absent or not a printable string",
        )
    return value


def name_claim(claims: Mapping[str, Any], path: str) -> str:
    """For reading only, so an absent or odd one is just empty."""
    value = lookup(claims, path)
    good = isinstance(value, str) and len(value) <= TEXT_CAP and value.isprintable()
    return str(value) if good else ""


def groups_claim(claims: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """A list of strings, or one string with spaces or commas between; absent: none."""
    value = lookup(claims, path)
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, list) or not all(isinstance(group, str) for group in value):
        raise refused(
            "the token's groups are not a list of names", f"claim {path!r} is of another type"
        )
    if len(value) > GROUPS_CAP:
        raise refused("the token names too many groups", f"claim {path!r} has {len(value)} names")
    return tuple(dict.fromkeys(value))
