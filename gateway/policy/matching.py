# SPDX-License-Identifier: GPL-3.0-or-later
"""Names against patterns, and SQL units against selectors. `*` spans one segment of a name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from gateway.policy.documents import Selector
from gateway.policy.languages.sql.analysis import UNKNOWN, Name, Unit
from gateway.policy.languages.sql.kinds import ADMIN, ALONE, within

_DATA = files("gateway.policy.languages.sql")


def _lines(name: str) -> frozenset[str]:
    text = _DATA.joinpath(name).read_text("utf-8")
    return frozenset(line[3:-1] for line in text.splitlines() if line.startswith('- "'))


SAFE_FUNCTIONS = _lines("safe_functions.yaml")
CATALOGUE = _lines("catalogue.yaml")
_OTHER_FUNCTIONS = _lines("other_functions.yaml")
# Password hashes, other sessions' statements, samples of rows, the server's own files.
_SECRET = frozenset(
    "pg_authid pg_shadow pg_user_mapping pg_user_mappings pg_largeobject pg_statistic pg_stats "
    "pg_statistic_ext_data pg_stats_ext pg_stats_ext_exprs pg_subscription pg_stat_activity "
    "pg_hba_file_rules pg_ident_file_mappings pg_file_settings pg_config pg_stat_statements "
    "user_mapping_options _pg_user_mappings pg_prepared_statements pg_cursors "
    "pg_stat_wal_receiver pg_stat_replication".split()
)
_NAMED_ONLY = ADMIN | ALONE
_WRAPPERS = frozenset({"prepare", "declare", "execute", "fetch", "explain"})


@lru_cache(4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


def like(name: str, patterns: Iterable[str]) -> bool:
    """True when one of `patterns` is `name`; a `*` in it stands for anything."""
    return any(_pattern(pattern).fullmatch(name) is not None for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where unqualified names are looked for. `path` None: nobody knows."""

    path: tuple[str, ...] | None = ("public",)
    login: str = ""
    """A schema of the login's own name, which may be looked at first: a deny hits there too."""

    def candidates(self, name: Name) -> list[Name]:
        """Every relation that `name` may be."""
        return [name] if name.schema else self._found(name.name, name.name in CATALOGUE)

    def function_candidates(self, name: Name) -> list[Name]:
        """Every function that `name` may be.

        A name that pg_catalog has is taken for that one, as pg_catalog is looked at first. An
        overload elsewhere that fits its arguments better is not seen: nobody but those whom the
        target trusts should be able to create one (CVE-2018-1058).
        """
        if name.schema:
            return [name]
        if not self.shadows and (name.name in SAFE_FUNCTIONS or name.name in _OTHER_FUNCTIONS):
            return [Name("pg_catalog", name.name)]
        return self.function_suspects(name)

    def function_suspects(self, name: Name) -> list[Name]:
        """Every function that `name` may be, overloads of built-in ones among them."""
        if name.schema:
            return [name]
        found = self._found(name.name, False)
        # Newer servers have functions that our lists do not.
        own = name.name in SAFE_FUNCTIONS or name.name in _OTHER_FUNCTIONS
        if own or name.name.startswith(("pg_", "lo_", "binary_upgrade_")):
            found.append(Name("pg_catalog", name.name))
        return found

    def _found(self, name: str, in_catalogue: bool) -> list[Name]:
        if self.path is None:
            return [Name(UNKNOWN, name)]
        if in_catalogue and not self.shadows:
            return [Name("pg_catalog", name)]
        schemas = [s for s in self.path if s != "pg_catalog" or in_catalogue]
        return [Name(schema, name) for schema in schemas or (UNKNOWN,)]

    @property
    def shadows(self) -> bool:
        """True where something may stand before pg_catalog, which else is looked at first."""
        path = self.path
        return path is None or ("pg_catalog" in path and path[0] != "pg_catalog")

    def suspects(self, name: Name) -> list[Name]:
        """Every relation that `name` may be if the login has a schema of its own."""
        found = self.candidates(name)
        if not name.schema and self.login:
            found = [*found, Name(self.login, name.name)]
        return found


def scope_of(value: str | None, login: str) -> Scope:
    """From search_path as the session has it: None: never changed; '': changed, not known to us.

    One that was never changed is taken for PostgreSQL's default, `"$user", public`.
    """
    if value is None:
        return Scope(("public",), login)
    words = _listed(value)
    named = tuple(word for word in words if word != "$user")
    return Scope(named or None, login if "$user" in words else "")


_WORD = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",]*?))\s*(?:,|$)')


def _listed(value: str) -> list[str]:
    """The names of a list as the server reads it (SplitIdentifierString)."""
    words, at = [], 0
    while at < len(value):
        found = _WORD.match(value, at)
        if found is None:
            return []
        quoted, plain = found.groups()
        words.append(quoted.replace('""', '"') if quoted is not None else plain.lower())
        at = found.end()
    return [word for word in words if word]


def _covers(patterns: tuple[str, ...] | None, candidates: list[Name]) -> bool:
    if patterns is None:
        return True
    return all(_one(patterns, candidate, sure=True) for candidate in candidates)


def _one(patterns: tuple[str, ...], candidate: Name, *, sure: bool) -> bool:
    for pattern in patterns:
        schema, dot, name = pattern.rpartition(".")
        if not dot:
            schema = "*"
        if _segment(schema, candidate.schema, sure) and _segment(name, candidate.name, sure):
            return True
    return False


def _segment(pattern: str, word: str, sure: bool) -> bool:
    if word == UNKNOWN:
        return pattern == "*" or not sure
    return like(word, (pattern,))


def is_plain_catalogue(candidates: Iterable[Name]) -> bool:
    """True when reading it tells only what things are called."""
    return all(
        name.name not in _SECRET
        and (
            (name.schema == "pg_catalog" and name.name in CATALOGUE)
            or name.schema == "information_schema"
        )
        for name in candidates
    )


def covers_kind(selector: Selector, kind: str) -> bool:
    """True when an allow of `selector` speaks of `kind`."""
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
    reads = [scope.candidates(name) for name in unit.reads]
    if ordinary:
        reads = [[c for c in found if not is_plain_catalogue((c,))] for found in reads]
        reads = [found for found in reads if found]
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
        if _safe(name, scope):
            continue
        candidates = scope.function_candidates(name)
        if not any(s.functions is not None and _covers(s.functions, candidates) for s in mine):
            return f"function {name}"
    return None


def _safe(name: Name, scope: Scope) -> bool:
    if name.schema != "pg_catalog" and (name.schema or scope.shadows):
        return False
    return name.name in SAFE_FUNCTIONS


def hits(selector: Selector, unit: Unit, scope: Scope) -> bool:
    """True when a deny of `selector` speaks of `unit`; every key given must find something."""
    if selector.kinds is not None and not within(unit.kind, selector.kinds):
        return False
    if selector.flags and not any(_flagged(flag, unit, scope) for flag in selector.flags):
        return False
    for patterns, names in ((selector.reads, unit.reads), (selector.writes, unit.writes)):
        found = [c for name in names for c in scope.suspects(name)]
        if patterns is not None and not any(_one(patterns, c, sure=False) for c in found):
            return False
    called = [c for name in unit.functions for c in scope.function_suspects(name)]
    patterns = selector.functions
    return patterns is None or any(_one(patterns, c, sure=False) for c in called)


def _flagged(flag: str, unit: Unit, scope: Scope) -> bool:
    if flag not in unit.flags:
        return False
    # Lists of what things are called are read whole by every client.
    return flag != "no_limit" or not all(
        is_plain_catalogue(scope.candidates(name)) for name in unit.reads
    )
