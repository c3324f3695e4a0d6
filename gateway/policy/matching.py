# SPDX-License-Identifier: GPL-3.0-or-later
"""Names against patterns, and SQL units against selectors. `*` spans one segment of a name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from gateway.policy.documents import Selector
from gateway.policy.languages.sql.analysis import Name, Unit
from gateway.policy.languages.sql.kinds import ADMIN, within

_DATA = files("gateway.policy.languages.sql")


def _lines(name: str) -> frozenset[str]:
    text = _DATA.joinpath(name).read_text("utf-8")
    return frozenset(line[3:-1] for line in text.splitlines() if line.startswith('- "'))


SAFE_FUNCTIONS = _lines("safe_functions.yaml")
CATALOGUE = _lines("catalogue.yaml")
# Password hashes, other sessions' statements, samples of rows, the server's own files.
_SECRET = frozenset(
    "pg_authid pg_shadow pg_user_mapping pg_user_mappings pg_largeobject pg_statistic pg_stats "
    "pg_statistic_ext_data pg_stats_ext pg_stats_ext_exprs pg_subscription pg_stat_activity "
    "pg_hba_file_rules pg_ident_file_mappings pg_file_settings pg_config pg_stat_statements "
    "user_mapping_options _pg_user_mappings pg_prepared_statements pg_cursors".split()
)
_NAMED_ONLY = ADMIN | {"do", "call", "copy_program", "set_role", "unknown", "function_call"}
_WRAPPERS = frozenset({"prepare", "declare", "execute", "fetch", "explain"})


@lru_cache(4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("[^.]*".join(re.escape(part) for part in text.split("*")))


def like(name: str, patterns: Iterable[str]) -> bool:
    return any(_pattern(pattern).fullmatch(name) is not None for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where unqualified names are looked for; None: nobody knows."""

    path: tuple[str, ...] | None = ("public",)

    def candidates(self, name: Name, catalogue: frozenset[str] = CATALOGUE) -> list[str]:
        """`schema.name` of everything it may be; `?` is a schema that is not known."""
        if name.schema:
            return [f"{name.schema}.{name.name}"]
        if name.name in catalogue:
            return [f"pg_catalog.{name.name}"]
        return [f"{schema}.{name.name}" for schema in self.path or ("?",)]


def scope_of(value: str | None, user: str) -> Scope:
    """From search_path as the session has it: None: never changed; '': changed, not known to us."""
    if value is None:
        return Scope()
    if not value.strip():
        return Scope(None)
    path = []
    for part in value.split(","):
        word = part.strip()
        quoted = word.startswith('"') and word.endswith('"') and len(word) > 1
        word = word[1:-1].replace('""', '"') if quoted else word.lower()
        path.append(user if word == "$user" else word)
    return Scope(tuple(path))


def _covers(patterns: tuple[str, ...] | None, candidates: list[str]) -> bool:
    if patterns is None:
        return True
    return all(_one(patterns, candidate, sure=True) for candidate in candidates)


def _one(patterns: tuple[str, ...], candidate: str, *, sure: bool) -> bool:
    schema, _, bare = candidate.partition(".")
    for pattern in patterns:
        where, dot, what = pattern.rpartition(".")
        if not dot:
            where = "*"
        unknown = schema == "?"
        if (where == "*" if unknown and sure else unknown or like(schema, (where,))) and like(
            bare, (what,)
        ):
            return True
    return False


def is_plain_catalogue(candidates: list[str]) -> bool:
    """True when reading it tells only what things are called."""
    return all(
        schema in ("pg_catalog", "information_schema") and name not in _SECRET
        for schema, _, name in (candidate.partition(".") for candidate in candidates)
    )


def covers_kind(selector: Selector, kind: str) -> bool:
    if selector.kinds is None:
        return kind not in _NAMED_ONLY
    return within(kind, selector.kinds)


def uncovered(
    unit: Unit, allows: list[Selector], scope: Scope, *, ordinary: bool = True
) -> str | None:
    """What of `unit` no selector allows, in words; None if all of it is covered.

    `ordinary`: what ordinary clients need is included.
    """
    mine = [selector for selector in allows if covers_kind(selector, unit.kind)]
    reads = [c for c in map(scope.candidates, unit.reads)]
    if ordinary:
        reads = [c for c in reads if not is_plain_catalogue(c)]
    free = unit.harmless or unit.kind in _WRAPPERS
    free = free or (unit.kind == "select" and not reads and not unit.writes)
    if not mine and not (ordinary and free):
        return unit.kind
    for candidates in reads:
        if not any(_covers(s.reads, candidates) for s in mine):
            return f"reading {candidates[0]}"
    for name in unit.writes:
        candidates = scope.candidates(name)
        if not any(_covers(s.writes, candidates) for s in mine):
            return f"{unit.kind} on {candidates[0]}"
    return _functions(unit, mine, scope)


def _functions(unit: Unit, mine: list[Selector], scope: Scope) -> str | None:
    for name in unit.functions:
        if name.schema in ("", "pg_catalog") and name.name in SAFE_FUNCTIONS:
            continue
        candidates = [*scope.candidates(name, frozenset())]
        if not name.schema:
            candidates.append(f"pg_catalog.{name.name}")
        if not any(s.functions is not None and _covers(s.functions, candidates) for s in mine):
            return f"function {name}"
    return None


def hits(selector: Selector, unit: Unit, scope: Scope) -> bool:
    """True when a deny of `selector` speaks of `unit`; every key given must find something."""
    if selector.kinds is not None and not within(unit.kind, selector.kinds):
        return False
    if selector.flags and not unit.flags & set(selector.flags):
        return False
    for patterns, names in (
        (selector.reads, unit.reads),
        (selector.writes, unit.writes),
        (selector.functions, unit.functions),
    ):
        if patterns is not None and not _any(patterns, names, scope):
            return False
    return True


def _any(patterns: tuple[str, ...], names: tuple[Name, ...], scope: Scope) -> bool:
    found = [c for name in names for c in scope.candidates(name)]
    return any(_one(patterns, candidate, sure=False) for candidate in found)
