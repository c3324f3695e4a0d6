# SPDX-License-Identifier: GPL-3.0-or-later
"""What a text of SQL does, as plain data; no parser here, so that any process may hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = "?"
"""A schema or a name that the text does not tell."""


@dataclass(frozen=True, slots=True)
class Name:
    """An object as written: folded, `schema` empty where the text gives none."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class Unit:
    """A statement, or a writing part of one (WITH x AS (DELETE ...)): a kind and its objects."""

    kind: str
    reads: tuple[Name, ...] = ()
    writes: tuple[Name, ...] = ()
    functions: tuple[Name, ...] = ()
    flags: frozenset[str] = frozenset()
    """unfiltered_write, no_limit, dynamic, do_block, copy_program."""
    harmless: bool = False
    """A session statement that changes nothing but what ordinary clients change."""
    needs: str = ""
    """A fact whose text is what really runs: `prepared:x`, `cursor:c`."""


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """All units of a text. `problem`: why it could not be analysed, else empty.

    `declares`: (kind, name, text) of what it does to its session, as gateway.model.Declared has
    them; besides, `reset` of a setting: the value that the session began with, and `local`: a value
    that is in force in a transaction block, and not at all outside of one.
    """

    units: tuple[Unit, ...] = ()
    declares: tuple[tuple[str, str, str], ...] = ()
    clear: str = "unparsed"
    shape: str = ""
    problem: str = ""
    statements: tuple[Mapping[str, Any], ...] = field(default=())
    count: int = 1
    """How many statements the text holds."""
    ends: bool = False
    """One of them ends a transaction or goes back in it, which restores settings."""
    by_shape: bool = False
    """Every text that differs from this one in nothing but its constants does the same."""


def to_plain(analysis: Analysis) -> dict[str, Any]:
    """For the pipe between the parser's process and ours."""
    return {
        "units": [_plain(unit) for unit in analysis.units],
        "declares": analysis.declares,
        "clear": analysis.clear,
        "shape": analysis.shape,
        "problem": analysis.problem,
        "count": analysis.count,
        "ends": analysis.ends,
        "by_shape": analysis.by_shape,
    }


def _plain(unit: Unit) -> dict[str, Any]:
    pairs = {k: [(n.schema, n.name) for n in getattr(unit, k)] for k in _OBJECTS}
    return {
        "kind": unit.kind,
        **pairs,
        "flags": sorted(unit.flags),
        "harmless": unit.harmless,
        "needs": unit.needs,
    }


_OBJECTS = ("reads", "writes", "functions")


def from_plain(plain: Mapping[str, Any]) -> Analysis:
    """The inverse of `to_plain`. Raises KeyError, TypeError, ValueError on anything else."""
    units = tuple(_unit(unit) for unit in plain["units"])
    return Analysis(
        units,
        tuple((str(k), str(n), str(t)) for k, n, t in plain["declares"]),
        str(plain["clear"]),
        str(plain["shape"]),
        str(plain["problem"]),
        tuple(shown(unit) for unit in units),
        int(plain["count"]),
        bool(plain["ends"]),
        bool(plain["by_shape"]),
    )


def _unit(plain: Mapping[str, Any]) -> Unit:
    pairs = {k: tuple(Name(str(s), str(n)) for s, n in plain[k]) for k in _OBJECTS}
    return Unit(
        str(plain["kind"]),
        flags=frozenset(plain["flags"]),
        harmless=bool(plain["harmless"]),
        needs=str(plain["needs"]),
        **pairs,
    )


def shown(unit: Unit) -> dict[str, Any]:
    """As `explain` prints it and the record keeps it."""
    return {"kind": unit.kind, **{k: [str(n) for n in getattr(unit, k)] for k in _OBJECTS}}
