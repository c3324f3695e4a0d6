# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision: units of a text, the chain and the documents in, a judgement out. Default deny.

Every prefix of the chain must be allowed, so that no rule on an actor gives a child more than its
parent. A document in `mode: observe` never weakens one that enforces: where an enforcing document
matches, what none of them allows is denied; where only observing ones match, all passes and what
they would refuse is `would_deny`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.model import Grant, Level, Target, Verdict
from gateway.policy.conditions import true
from gateway.policy.documents import Document, PolicySet, Rule
from gateway.policy.languages.sql.analysis import Unit
from gateway.policy.matching import Scope, covers_kind, hits, like, uncovered
from gateway.policy.narrowing import outside

_UNREAD = "unanalysable"
_RANK = {Verdict.ALLOW: 0, Verdict.WOULD_DENY: 1, Verdict.DENY: 2}


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    document: Document | None = None
    rule: str = ""
    reason: str = ""
    level: Level = Level.PROCESS
    rules: tuple[str, ...] = ()
    """Every rule that spoke, as `policy/rule`."""
    timed: bool = False
    """It may be another one at another time: not to be cached."""


@dataclass(frozen=True, slots=True)
class Where:
    """The facts of one decision. `now`: seconds since the epoch."""

    target: Target
    user: str
    now: float
    scope: Scope


def judge(
    policies: PolicySet, grant: Grant, where: Where, units: Iterable[Unit], problem: str = ""
) -> Judgement:
    """Decide. `problem`: why the text could not be analysed; it denies (observed: passes)."""
    units = tuple(units)
    worst: Judgement | None = None
    for depth in range(len(grant.chain) + 1):
        answer = _prefix(policies, grant, depth, where, units, problem)
        if worst is None or _RANK[answer.verdict] >= _RANK[worst.verdict]:
            worst = answer
    assert worst is not None
    left = outside(grant.narrowing, where.target.name, units, where.scope)
    if left is None and problem and grant.narrowing:
        left = problem
    if left is not None:
        return Judgement(Verdict.DENY, worst.document, "", left, worst.level, worst.rules)
    return worst


def matching(
    policies: PolicySet, grant: Grant, depth: int, target: Target, user: str
) -> list[Document]:
    """The documents that speak of this prefix of the chain on this target."""
    return [d for d in policies.documents if _matches(d.match, grant, depth, target, user)]


def _matches(match: Mapping[str, Any], grant: Grant, depth: int, target: Target, user: str) -> bool:
    actor = grant.actor_groups if depth == len(grant.chain) else ()
    values: dict[str, tuple[str, ...]] = {
        "targets": (target.name,),
        "groups": grant.groups,
        "protocols": (target.protocol,),
        "issuers": (grant.origin.issuer,),
        "kinds": (grant.origin.kind,),
        "users": (user,),
        "actor.groups": actor,
    }
    for key, wanted in match.items():
        if key == "labels":
            if not all(like(target.labels.get(k, ""), (v,)) for k, v in wanted.items()):
                return False
        elif not any(_same(key, value, wanted) for value in values[key]):
            return False
    return True


def _same(key: str, value: str, wanted: tuple[str, ...]) -> bool:
    # An issuer is a URL and is compared whole; a `*` in it would be somebody else's.
    return value in wanted if key == "issuers" else like(value, wanted)


def _prefix(
    policies: PolicySet,
    grant: Grant,
    depth: int,
    where: Where,
    units: tuple[Unit, ...],
    problem: str,
) -> Judgement:
    documents = matching(policies, grant, depth, where.target, where.user)
    enforcing = [d for d in documents if d.mode == "enforce"]
    observing = [d for d in documents if d.mode != "enforce"]
    variables = _variables(grant, depth, where)
    enforced = _among(enforcing, where, units, problem, variables)
    if not observing or (enforcing and enforced.verdict is Verdict.DENY):
        return enforced
    observed = _among(observing, where, units, problem, variables)
    if observed.verdict is Verdict.DENY:
        parts = (observed.document, observed.rule, observed.reason, observed.level)
        timed = observed.timed or enforced.timed
        return Judgement(Verdict.WOULD_DENY, *parts, observed.rules, timed)
    return enforced if enforcing else observed


def _among(
    documents: list[Document],
    where: Where,
    units: tuple[Unit, ...],
    problem: str,
    variables: Mapping[str, Any],
) -> Judgement:
    if not documents:
        return Judgement(Verdict.DENY, reason=f"no policy allows anything on {where.target.name}")
    timed = any(d.timed for d in documents)
    level = Level.DISK if any(d.durability == "disk" for d in documents) else Level.PROCESS
    if problem:
        return Judgement(Verdict.DENY, documents[0], _UNREAD, problem, level, timed=timed)
    allows: list[tuple[Document, Rule]] = []
    for document in documents:
        for rule in document.rules:
            try:
                speaks = _speaks(rule, where.now, variables)
            except ValueError as exc:
                return Judgement(Verdict.DENY, document, rule.id, str(exc), level, timed=timed)
            if speaks and rule.action == "allow":
                allows.append((document, rule))
            elif speaks and any(hits(rule.sql, unit, where.scope) for unit in units):
                reason = rule.reason or f"rule {rule.id}"
                spoke = (f"{document.name}/{rule.id}",)
                return Judgement(Verdict.DENY, document, rule.id, reason, level, spoke, timed)
    return _allowed(documents, allows, where, units, level, timed)


def _allowed(
    documents: list[Document],
    allows: list[tuple[Document, Rule]],
    where: Where,
    units: tuple[Unit, ...],
    level: Level,
    timed: bool,
) -> Judgement:
    selectors = [rule.sql for _, rule in allows]
    ordinary = bool(allows) and not any(d.strict for d in documents)
    if not allows:
        return Judgement(Verdict.DENY, documents[0], "", "no rule allows it", level, (), timed)
    for unit in units:
        left = uncovered(unit, selectors, where.scope, ordinary=ordinary)
        if left is not None:
            reason = f"no rule allows {left}"
            return Judgement(Verdict.DENY, documents[0], "", reason, level, (), timed)
    named = [(d, r) for d, r in allows if any(covers_kind(r.sql, unit.kind) for unit in units)]
    spoke = tuple(f"{document.name}/{rule.id}" for document, rule in named)
    document, rule = (named or allows)[0]
    return Judgement(Verdict.ALLOW, document, rule.id, rule.reason, level, spoke, timed)


def _speaks(rule: Rule, now: float, variables: Mapping[str, Any]) -> bool:
    if rule.at is not None and not rule.at.holds(now):
        return False
    if rule.when is not None and not true(rule.when, variables):
        return False
    return rule.unless is None or not true(rule.unless, variables)


def _variables(grant: Grant, depth: int, where: Where) -> dict[str, Any]:
    chain = [
        {"name": hop.name, "proved": hop.proved, "isolation": hop.isolation}
        for hop in grant.chain[:depth]
    ]
    origin = {"name": grant.origin.label, "proved": True, "isolation": "none"}
    target = {"name": where.target.name, "labels": dict(where.target.labels)}
    return {
        "subject": grant.origin.subject,
        "groups": list(grant.groups),
        "chain": [origin, *chain],
        "actor": [origin, *chain][-1],
        "target": {**target, "protocol": where.target.protocol, "user": where.user},
        "now": where.now,
        "ticket": "",
        "request": {},
    }
