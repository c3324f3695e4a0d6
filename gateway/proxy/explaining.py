# SPDX-License-Identifier: GPL-3.0-or-later
"""What would be decided of one operation and why, and the tests that policies bring along."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from gateway.model import Grant, Hop, Identity, Target
from gateway.policy.decide import Where, judge, matching
from gateway.policy.documents import PolicySet
from gateway.policy.languages.sql.analysis import shown
from gateway.proxy.analyst import Analyst
from gateway.proxy.decider import Paths, resolved


async def own_tests(policies: PolicySet, analyst: Analyst) -> AsyncIterator[dict[str, Any]]:
    """The result of each test that stands in a document, each document by itself."""
    for document in policies.documents:
        for case in document.tests:
            yield await _run_test(PolicySet((document,)), analyst, document.place, case)


async def _run_test(
    policies: PolicySet, analyst: Analyst, path: str, case: Mapping[str, Any]
) -> dict[str, Any]:
    answer, rule = await explained(policies, analyst, case)
    got = {"verdict": answer["verdict"], "rule": rule}
    expected = {"verdict": case["expect"], "rule": case.get("rule")}
    ok = got["verdict"] == expected["verdict"] and expected["rule"] in (None, got["rule"])
    place = {"path": path, "line": case["line"]}
    return {"ok": ok, **place, "expected": expected, "got": got, "reason": answer["reason"]}


async def explained(
    policies: PolicySet, analyst: Analyst, asked: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """The document that `policy explain` prints for one operation, and the rule that decided."""
    who = asked.get("as") or {}
    grant, user = _grant(who), str(who.get("user", ""))
    target = Target(str(asked.get("target", "")), "postgresql", "", 0)
    analysis = await analyst.analyse(str(asked.get("sql", "")))
    analysis, units, problem = await resolved(analyst, analysis, lambda _name: None)
    path = asked.get("search_path")
    scopes = Paths(path, path).scopes(analysis, user)
    judged = judge(policies, grant, Where(target, user, time.time(), scopes), units, problem)
    found = matching(policies, grant, len(grant.chain), target, user)
    answer = {
        "id": asked.get("id"),
        "verdict": judged.verdict.value,
        "rules": list(judged.rules),
        "reason": judged.reason,
        "masks": [],
        "limits": [],
        "approve": None,
        "policies": [{"name": d.name, "version": d.version} for d in found],
        "analysis": {"statements": [shown(unit) for unit in units]},
    }
    return answer, judged.rule or None


def _grant(who: Mapping[str, Any]) -> Grant:
    """The identity that `as` describes: the chain's first name is the origin."""
    chain = [str(name) for name in who.get("chain") or ["someone"]]
    origin = Identity(
        str(who.get("issuer", "")),
        str(who.get("subject", chain[0])),
        chain[0],
        str(who.get("kind", "person")),
    )
    groups = tuple(str(group) for group in who.get("groups") or ())
    actor = tuple(str(group) for group in (who.get("actor") or {}).get("groups") or ())
    hops = tuple(Hop(name) for name in chain[1:])
    return Grant("explain", origin, groups, hops, actor_groups=actor)
