# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a grant as it is kept stands below its ancestors, as it was minted.

A row that was changed behind the gateway's back gives nobody more than those above it have.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from gateway.store.database import Row

MOST_STEPS = 64
"""From a grant to its root: far more than the limit of actors allows."""


def flaw(path: Sequence[Row]) -> str:
    """What is wrong with the rows from a grant to its root; empty: nothing."""
    last = path[-1]
    if last["parent"] is not None:
        cyclic = last["parent"] in {row["id"] for row in path} or len(path) >= MOST_STEPS
        return "it passes one grant twice" if cyclic else "an ancestor is missing"
    try:
        for row, above in pairwise(path):
            if wrong := _step(row, above):
                return wrong
        return _shape(path)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "it is not of this format"


def _shape(path: Sequence[Row]) -> str:
    named = [hop["grant"] for hop in json.loads(path[0]["chain"])]
    ids = [row["id"] for row in reversed(path)]
    if len(set(named)) != len(named):
        return "it passes one grant twice"
    if ids[1:] != named:
        return "it does not name its ancestors in their order"
    return "" if path[0]["root"] == ids[0] else "it has another root"


def _step(row: Row, above: Row) -> str:
    chain, upper = _list(row, "chain"), _list(above, "chain")
    narrowing, wider = _list(row, "narrowing"), _list(above, "narrowing")
    if any(row[name] != above[name] for name in ("issuer", "subject", "kind", "groups", "root")):
        return "it has another origin than its parent"
    if len(chain) == len(upper) + 1 and chain[:-1] != upper:
        return "it has another chain than its parent and one hop"
    if narrowing[: len(wider)] != wider:
        return "it is narrowed less than its parent"
    if row["expires_at"] > above["expires_at"]:
        return "it outlives its parent"
    return "an ancestor was revoked" if above["revoked_at"] is not None else ""


def _list(row: Row, name: str) -> list[Any]:
    value = json.loads(row[name])
    if not isinstance(value, list):
        raise TypeError
    return value
