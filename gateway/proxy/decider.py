# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy at work for sessions: analysis, facts, decision, and the caches of both."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.model import Decision, Declared, Grant, Operation, Session, Target
from gateway.policy.decide import Judgement, Where, judge, matching
from gateway.policy.documents import PolicySet
from gateway.policy.languages.sql.analysis import Analysis, Name, Unit
from gateway.policy.matching import scope_of
from gateway.proxy.analyst import Analyst

_CACHED = 1024
_DEPTH = 4
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


class SessionDecider:
    """Implements `ports.SessionPolicy`."""

    def __init__(self, policy: DeciderPolicy, session: Session) -> None:
        self._policy = policy
        self._session = session
        self._made_by = policy.policies
        self._known: OrderedDict[object, Decision] = OrderedDict()

    def decide_now(self, operation: Operation) -> Decision | None:
        if self._made_by is not self._policy.policies:
            self._known.clear()
            self._made_by = self._policy.policies
        return self._known.get((operation.text, operation.settings, operation.kind))

    async def decide(self, operation: Operation, fact: Callable[[str], str | None]) -> Decision:
        policies = self._policy.policies
        analysis, units, problem = await self._units(operation, fact)
        decided = self._judge(policies, operation, units, problem)
        decision = _decision(decided, analysis, problem)
        facts = any(unit.needs for unit in units)
        plain = operation.text is not None and not facts and not problem and not decided.timed
        if plain and len(operation.text or "") <= 16384 and policies is self._made_by:
            self._known[(operation.text, operation.settings, operation.kind)] = decision
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        return decision

    def _judge(
        self, policies: PolicySet, operation: Operation, units: list[Unit], problem: str
    ) -> Judgement:
        session = self._session
        scope = scope_of(dict(operation.settings).get("search_path"), session.user)
        where = Where(session.target, session.user, self._policy.clock(), scope)
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
        units, problem = await resolved(self._policy.analyst, analysis, fact)
        return analysis, units, problem


async def resolved(
    analyst: Analyst, analysis: Analysis, fact: Callable[[str], str | None]
) -> tuple[list[Unit], str]:
    """All units, those of texts that are run by name too; and why not all are known."""
    units = list(analysis.units)
    if analysis.problem:
        return units, analysis.problem
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
            return units, f"what {need.replace(':', ' ')} stands for is not known"
        for text in texts:
            inner = await analyst.analyse(text)
            if inner.problem:
                return units, inner.problem
            units += inner.units
            waiting += [(unit.needs, depth + 1) for unit in inner.units if unit.needs]
    return units, ""


def _function(oid: str) -> tuple[Analysis, list[Unit], str]:
    name = _FUNCTIONS.get(oid)
    if name is None:
        problem = "the function that is called is not known"
        return Analysis(problem=problem), [], problem
    unit = Unit("function_call", functions=(Name("pg_catalog", name),))
    return Analysis((unit,), clear=f"function_call {name}"), [unit], ""


def _decision(judged: Judgement, analysis: Analysis, problem: str) -> Decision:
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
        tuple(Declared(*parts) for parts in analysis.declares),
        json.dumps(record, ensure_ascii=False).encode(),
    )


def session_for(grant: Grant, target: Target) -> Session:
    """A session that is only spoken of (explain, tests of documents)."""
    return Session("explain", 0, grant, target, "", "", "")
