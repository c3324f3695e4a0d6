# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy at work for sessions: analysis, facts, decision, and the caches of both."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.model import Decision, Declared, Operation, Session
from gateway.policy.decide import Judgement, Where, judge, matching
from gateway.policy.documents import PolicySet
from gateway.policy.languages.sql.analysis import Analysis, Name, Unit
from gateway.policy.matching import Scope, scope_of
from gateway.proxy.analyst import Analyst
from gateway.proxy.shapes import shape_of

_CACHED_TEXT = 16384
_CACHED_BYTES = 512 << 10
"""Of one session's decisions: texts and what goes to the record with them."""
_MET_ONCE = 64
"""Texts of which a session remembers that they came once."""
_DEPTH = 4
_DEFAULT_PATH = '"$user", public'
# Large objects, by the fixed OIDs of their functions (pg_proc.dat).
_FUNCTIONS = {
    "952": "lo_open",
    "953": "lo_close",
    "954": "loread",
    "955": "lowrite",
    "956": "lo_lseek",
    "957": "lo_creat",
    "958": "lo_tell",
    "715": "lo_create",
    "964": "lo_unlink",
    "1004": "lo_truncate",
    "3170": "lo_lseek64",
    "3171": "lo_tell64",
    "3172": "lo_truncate64",
}


_Key = tuple[str | None, tuple[tuple[str, str], ...], str]


@dataclass(frozen=True, slots=True)
class Paths:
    """search_path as it is and as it was when the session began. None: the server's default."""

    now: str | None = None
    start: str | None = None

    def after(self, kind: str, value: str) -> str:
        """What is in force after a declared change; '' where that is not known."""
        if kind == "reset":
            return _DEFAULT_PATH if self.start is None else self.start
        if kind == "local":  # in a transaction block; without one the old stays: so, both
            old = _DEFAULT_PATH if self.now is None else self.now
            return f"{value}, {old}" if value and old else ""
        return value

    def scopes(self, analysis: Analysis, login: str) -> tuple[Scope, ...]:
        """Everywhere that unqualified names of a text may be looked for.

        A statement of a text is resolved after those before it have run: by the path that they
        set, or that the end of a transaction gives back.
        """
        found = {self.now: None}
        if analysis.count > 1:
            for kind, name, value in analysis.declares:
                if name == "search_path":
                    found[self.after(kind, value)] = None
                elif kind == "discard":
                    found[self.after("reset", "")] = None
            if analysis.ends and (len(found) > 1 or self.now != self.start):
                found[""] = None
        return tuple(scope_of(value, login) for value in found)


class DeciderPolicy:
    """Implements `ports.Policy` over one set of documents, which `swap` replaces."""

    def __init__(
        self, policies: PolicySet, analyst: Analyst, clock: Callable[[], float] = time.time
    ) -> None:
        self.policies = policies
        self.analyst = analyst
        self.clock = clock

    def swap(self, policies: PolicySet) -> None:
        """New documents from the next operation on; what was decided by the old is forgotten."""
        self.policies = policies

    def for_session(self, session: Session) -> SessionDecider:
        return SessionDecider(self, session)

    def summary(self, session: Session) -> list[dict[str, str]]:
        """The documents that match the whole chain."""
        grant = session.grant
        found = matching(self.policies, grant, len(grant.chain), session.target, session.user)
        return [{"name": d.name, "version": d.version, "mode": d.mode} for d in found]

    def gaps_allowed(self, session: Session) -> bool:
        """Whether every document that matches lets the session go on without a record."""
        grant = session.grant
        found = matching(self.policies, grant, len(grant.chain), session.target, session.user)
        return bool(found) and all(one.on_record_failure == "best_effort" for one in found)


class SessionDecider:
    """Implements `ports.SessionPolicy`."""

    def __init__(self, policy: DeciderPolicy, session: Session) -> None:
        self._policy = policy
        self._session = session
        self._made_by = policy.policies
        self._known: OrderedDict[_Key, Decision] = OrderedDict()
        self._size = 0
        self._shapes = False
        """Some decision is kept for a shape: statements with constants in them are looked up."""
        self._once: set[_Key] = set()
        self._began: Paths | None = None

    def decide_now(self, operation: Operation) -> Decision | None:
        if self._made_by is not self._policy.policies:
            self._known.clear()
            self._size = 0
            self._made_by = self._policy.policies
        text, settings, kind = operation.text, operation.settings, operation.kind
        known = self._known.get((text, settings, kind))
        if known is None and self._shapes and text is not None:
            shape = shape_of(text)
            known = self._known.get((shape, settings, kind)) if shape else None
            if known is not None:
                self._met((text, settings, kind), known)
        return known

    def _met(self, key: _Key, decision: Decision) -> None:
        """A text that comes again is kept as it stands: finding its shape costs ten look-ups."""
        if key in self._once:
            self._once.clear()
            self._keep(key, decision)
        elif len(self._once) < _MET_ONCE:
            self._once.add(key)
        else:
            self._once.clear()

    async def decide(self, operation: Operation, fact: Callable[[str], str | None]) -> Decision:
        now = dict(operation.settings).get("search_path")
        if self._began is None:
            self._began = Paths(now, now)
        paths = Paths(now, self._began.start)
        analysis, units, problem = await self._units(operation, fact)
        policies = self._policy.policies  # those in force now, not those when it was asked
        decided = self._judge(policies, paths, analysis, units, problem)
        decision = _decision(decided, analysis, problem, paths)
        plain = not problem and not decided.timed and not any(unit.needs for unit in units)
        if plain and policies is self._made_by:
            text = operation.text
            if analysis.by_shape and text and (shape := shape_of(text)):
                self._shapes, text = True, shape
            self._keep((text, operation.settings, operation.kind), decision)
        return decision

    def _keep(self, key: _Key, decision: Decision) -> None:
        text = key[0]
        if text is None or len(text) > _CACHED_TEXT or key in self._known:
            return
        self._known[key] = decision
        self._size += len(text) + len(decision.record)
        while self._size > _CACHED_BYTES:
            (oldest, _, _), gone = self._known.popitem(last=False)
            self._size -= len(oldest or "") + len(gone.record)

    def _judge(
        self,
        policies: PolicySet,
        paths: Paths,
        analysis: Analysis,
        units: list[Unit],
        problem: str,
    ) -> Judgement:
        session = self._session
        scopes = paths.scopes(analysis, session.user)
        where = Where(session.target, session.user, self._policy.clock(), scopes)
        return judge(policies, session.grant, where, units, problem)

    async def _units(
        self, operation: Operation, fact: Callable[[str], str | None]
    ) -> tuple[Analysis, list[Unit], str]:
        if operation.kind == "function_call":
            return _function(operation.name)
        if operation.text is None:
            problem = operation.undecodable or "the text is not known"
            return Analysis(problem=problem), [], problem
        analysis = await self._policy.analyst.analyse(operation.text)
        return await resolved(self._policy.analyst, analysis, fact)


async def resolved(
    analyst: Analyst, analysis: Analysis, fact: Callable[[str], str | None]
) -> tuple[Analysis, list[Unit], str]:
    """All units, those of texts that are run by name too, and why not all are known.

    The analysis comes back with what those texts do to the session.
    """
    units, declares = list(analysis.units), list(analysis.declares)
    if analysis.problem:
        return analysis, units, analysis.problem
    own = {
        f"{'prepared' if kind == 'prepare' else 'cursor'}:{name}": text
        for kind, name, text in analysis.declares
        if kind in ("prepare", "cursor")
    }
    waiting = [(unit.needs, 1) for unit in units if unit.needs]
    while waiting:
        need, depth = waiting.pop()
        # A name that this text declares stands for that text only if it did not stand before.
        texts = {text for text in (own.get(need), fact(need)) if text is not None}
        if not texts or depth > _DEPTH:
            return analysis, units, f"what {need.replace(':', ' ')} stands for is not known"
        for text in sorted(texts):
            inner = await analyst.analyse(text)
            if inner.problem:
                return analysis, units, inner.problem
            units += inner.units
            declares += inner.declares
            waiting += [(unit.needs, depth + 1) for unit in inner.units if unit.needs]
    return replace(analysis, declares=tuple(declares)), units, ""


def _function(oid: str) -> tuple[Analysis, list[Unit], str]:
    name = _FUNCTIONS.get(oid)
    if name is None:
        problem = "the function that is called is not known"
        return Analysis(problem=problem), [], problem
    unit = Unit("function_call", functions=(Name("pg_catalog", name),))
    return Analysis((unit,), clear=f"function_call {name}"), [unit], ""


def _declares(analysis: Analysis, paths: Paths) -> tuple[Declared, ...]:
    return tuple(
        Declared("setting", name, paths.after(kind, value))
        if kind in ("reset", "local")
        else Declared(kind, name, value)
        for kind, name, value in analysis.declares
    )


def _decision(judged: Judgement, analysis: Analysis, problem: str, paths: Paths) -> Decision:
    document = judged.document
    name, version = (document.name, document.version) if document else ("", "")
    # A parser's message quotes the text, which is the client's secret: not in the clear.
    hidden = bool(problem)
    record: dict[str, object] = {
        "verdict": judged.verdict.value,
        "policy": name,
        "version": version,
        "rule": judged.rule,
        "reason": "unanalysable" if hidden else judged.reason,
        "masks": [],
        "level": judged.level.name.lower(),
        "clear": {
            "text": analysis.clear,
            "shape": analysis.shape,
            "statements": list(analysis.statements),
        },
    }
    return Decision(
        judged.verdict,
        name,
        version,
        judged.rule,
        judged.reason,
        judged.level,
        _declares(analysis, paths),
        json.dumps(record, ensure_ascii=False).encode(),
    )
