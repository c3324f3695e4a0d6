# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision: units of a text, the chain and the documents in, a judgement out. Default deny.

Every prefix of the chain must be allowed, so that no rule on an actor gives a child more than its
parent. A document in `mode: observe` never weakens one that enforces: where an enforcing document
matches, what none of them allows is denied; where only observing ones match, all passes and what
they would refuse is `would_deny`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.model import Grant, Level, Target, Verdict
from gateway.policy.conditions import ConditionFailed, true
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
    """The facts of one decision. `now`: seconds since the epoch.

    `scopes`: where unqualified names may be looked for; what is denied in one is denied.
    """

    target: Target
    user: str
    now: float
    scopes: tuple[Scope, ...]


def judge(
    policies: PolicySet, grant: Grant, where: Where, units: Iterable[Unit], problem: str = ""
) -> Judgement:
    """Decide. `problem`: why the text could not be analysed; it denies (observed: passes)."""
    units = tuple(units)
    every = [
        _prefix(policies, grant, depth, _Asked(where, scope, units, problem))
        for scope in where.scopes
        for depth in range(len(grant.chain) + 1)
    ]
    worst = every[0]
    for answer in every[1:]:
        if _RANK[answer.verdict] >= _RANK[worst.verdict]:
            worst = answer
    worst = replace(
        worst,
        level=max(answer.level for answer in every),
        timed=any(answer.timed for answer in every),
    )
    for scope in where.scopes:
        left = outside(grant.narrowing, where.target.name, units, scope)
        if left is None and problem and grant.narrowing:
            left = problem
        if left is not None:
            return replace(worst, verdict=Verdict.DENY, rule="", reason=left)
    return worst


@dataclass(frozen=True, slots=True)
class _Asked:
    where: Where
    scope: Scope
    units: tuple[Unit, ...]
    problem: str


def matching(
    policies: PolicySet, grant: Grant, depth: int, target: Target, user: str
) -> list[Document]:
    """The documents that speak of this prefix of the chain on this target."""
    return [d for d in policies.documents if _matches(d.match, grant, depth, target, user)]


def _matches(match: Mapping[str, Any], grant: Grant, depth: int, target: Target, user: str) -> bool:
    values: dict[str, tuple[str, ...]] = {
        "targets": (target.name,),
        "groups": grant.groups,
        "protocols": (target.protocol,),
        "issuers": (grant.origin.issuer,),
        "kinds": (grant.origin.kind,),
        "users": (user,),
        "actor.groups": _actor_groups(grant, depth),
    }
    for key, wanted in match.items():
        if key == "labels":
            if not all(like(target.labels.get(k, ""), (v,)) for k, v in wanted.items()):
                return False
        elif not any(_same(key, value, wanted) for value in values[key]):
            return False
    return True


def _actor_groups(grant: Grant, depth: int) -> tuple[str, ...]:
    """Of the actor that this prefix ends in: what its groups deny it is denied below it too."""
    if not depth:
        return ()
    hop = grant.chain[depth - 1]
    return hop.groups or (grant.actor_groups if depth == len(grant.chain) else ())


def _same(key: str, value: str, wanted: tuple[str, ...]) -> bool:
    # An issuer is a URL and is compared whole; a `*` in it would be somebody else's.
    return value in wanted if key == "issuers" else like(value, wanted)


def _prefix(policies: PolicySet, grant: Grant, depth: int, asked: _Asked) -> Judgement:
    where = asked.where
    documents = matching(policies, grant, depth, where.target, where.user)
    enforcing = [d for d in documents if d.mode == "enforce"]
    observing = [d for d in documents if d.mode != "enforce"]
    variables = _variables(grant, depth, where)
    enforced = _among(enforcing, asked, variables)
    if not observing or (enforcing and enforced.verdict is Verdict.DENY):
        return enforced
    observed = _among(observing, asked, variables)
    if observed.verdict is Verdict.DENY:
        observed = replace(observed, verdict=Verdict.WOULD_DENY)
    elif enforcing:
        observed = replace(enforced, rules=(*enforced.rules, *observed.rules))
    return replace(
        observed,
        level=max(enforced.level, observed.level),
        timed=observed.timed or enforced.timed,
    )


def _among(documents: list[Document], asked: _Asked, variables: Mapping[str, Any]) -> Judgement:
    if not documents:
        name = asked.where.target.name
        return Judgement(Verdict.DENY, reason=f"no policy allows anything on {name}")
    level = Level.DISK if any(d.durability == "disk" for d in documents) else Level.PROCESS
    timed = any(d.timed for d in documents)
    allows: list[tuple[Document, Rule]] = []
    denies: list[tuple[Document, Rule, str]] = []
    for document in documents:
        for rule in document.rules:
            try:
                speaks = _speaks(rule, asked.where.now, variables)
            except ConditionFailed as exc:
                denies.append((document, rule, str(exc)))
                continue
            if speaks and rule.action == "allow":
                allows.append((document, rule))
            elif speaks and _denies(rule, asked):
                denies.append((document, rule, rule.reason or f"rule {rule.id}"))
    answer = _denied(documents, denies, asked) or _allowed(documents, allows, asked)
    return replace(answer, level=level, timed=timed)


def _denies(rule: Rule, asked: _Asked) -> bool:
    if asked.problem:  # what it does is not known, so that only its being unknown can be spoken of
        return "unanalysable" in rule.sql.flags
    return any(hits(rule.sql, unit, asked.scope) for unit in asked.units)


def _denied(
    documents: list[Document], denies: list[tuple[Document, Rule, str]], asked: _Asked
) -> Judgement | None:
    if denies:
        document, rule, reason = denies[0]
        spoke = tuple(f"{document.name}/{rule.id}" for document, rule, _ in denies)
        return Judgement(Verdict.DENY, document, rule.id, reason, rules=spoke)
    if asked.problem:
        spoke = (f"{documents[0].name}/{_UNREAD}",)
        return Judgement(Verdict.DENY, documents[0], _UNREAD, asked.problem, rules=spoke)
    return None


def _allowed(
    documents: list[Document], allows: list[tuple[Document, Rule]], asked: _Asked
) -> Judgement:
    if not allows:
        return Judgement(Verdict.DENY, documents[0], "", "no rule allows it")
    selectors = [rule.sql for _, rule in allows]
    ordinary = not any(d.strict for d in documents)
    for unit in asked.units:
        left = uncovered(unit, selectors, asked.scope, ordinary=ordinary)
        if left is not None:
            return Judgement(Verdict.DENY, documents[0], "", f"no rule allows {left}")
    kinds = {unit.kind for unit in asked.units}
    named = [(d, r) for d, r in allows if any(covers_kind(r.sql, kind) for kind in kinds)]
    spoke = tuple(f"{document.name}/{rule.id}" for document, rule in named)
    document, rule = (named or allows)[0]
    return Judgement(Verdict.ALLOW, document, rule.id, rule.reason, rules=spoke)


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
