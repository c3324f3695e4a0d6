# SPDX-License-Identifier: GPL-3.0-or-later
"""Check policies: lint, the documents' own tests, and explain what would be decided and why."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import Failed, print_json
from gateway.model import Grant, Hop, Identity, Target
from gateway.policy.decide import Where, judge, matching
from gateway.policy.documents import PolicyError, PolicySet
from gateway.policy.languages.sql.analysis import shown
from gateway.policy.matching import scope_of
from gateway.proxy.analyst import Analyst
from gateway.proxy.decider import resolved

_FILES = click.Path(path_type=Path, exists=True)


@click.group()
def policy() -> None:
    """Check policies before they are in force."""


COMMAND = policy


def _load(paths: Sequence[Path]) -> PolicySet:
    try:
        return PolicySet.load(paths)
    except PolicyError as exc:
        raise Failed(str(exc), "correct the lines named above", 1) from None


@policy.command()
@click.argument("paths", nargs=-1, required=True, type=_FILES)
@output_option("text", "json")
def lint(paths: Sequence[Path], output: str) -> None:
    """Every mistake of the documents at its line."""
    try:
        found = PolicySet.load(paths).documents
        mistakes: list[str] = []
    except PolicyError as exc:
        found, mistakes = (), str(exc).splitlines()
    if output == "json":
        print_json({"ok": not mistakes, "policies": [d.name for d in found], "findings": mistakes})
    else:
        for line in mistakes or [f"{d.place}: ok ({d.name})" for d in found]:
            click.echo(line)
    sys.exit(1 if mistakes else 0)


@policy.command()
@click.argument("paths", nargs=-1, required=True, type=_FILES)
@output_option("text", "json")
def test(paths: Sequence[Path], output: str) -> None:
    """Run the documents' own tests, each document by itself."""
    results = asyncio.run(_run_tests(_load(paths)))
    if output == "json":
        print_json(results)
    else:
        for result in results:
            click.echo(f"{'ok  ' if result['ok'] else 'FAIL'} {result['place']} {result['got']}")
    sys.exit(0 if all(result["ok"] for result in results) else 1)


async def _run_tests(policies: PolicySet) -> list[dict[str, Any]]:
    analyst = Analyst()
    results = []
    try:
        for document in policies.documents:
            for case in document.tests:
                answer = await explained(PolicySet((document,)), analyst, case)
                ok = answer["verdict"] == case.get("expect")
                ok = ok and case.get("rule") in (None, answer["rule"])
                place = f"{document.place}:{case['line']}"
                results.append({"ok": ok, "place": place, "got": answer["verdict"]})
    finally:
        await analyst.close()
    return results


@policy.command()
@click.option("--policy", "paths", multiple=True, required=True, type=_FILES)
@click.option("--as", "who", default="{}", help='JSON: {"groups": [..], "chain": ["alice", ..]}')
@click.option("--target", default="")
@click.option("--sql", default="")
@click.option("--stdin", "lines", is_flag=True, help="A JSON object a line; answers a line each.")
@output_option("text", "json")
def explain(
    paths: Sequence[Path], who: str, target: str, sql: str, lines: bool, output: str
) -> None:
    """What would be decided of one operation, by which rules, and what the parser saw."""
    policies = _load(paths)
    try:
        one = {"target": target, "sql": sql, "as": json.loads(who)}
        asyncio.run(_explain(policies, None if lines else one, output))
    except (ValueError, TypeError, AttributeError) as exc:
        raise Failed(f"not an operation: {exc}", "see trailgate policy explain --help") from None


async def _explain(policies: PolicySet, one: Mapping[str, Any] | None, output: str) -> None:
    analyst = Analyst()
    try:
        for asked in [one] if one is not None else map(json.loads, sys.stdin):
            answer = await explained(policies, analyst, asked)
            if output == "json" or one is None:
                print_json(answer)
            else:
                click.echo(f"{answer['verdict']}: {answer['reason'] or answer['rules']}")
            sys.stdout.flush()
    finally:
        await analyst.close()


async def explained(
    policies: PolicySet, analyst: Analyst, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """The document that `policy explain` prints for one operation."""
    grant = _grant(asked.get("as") or {})
    target = Target(str(asked.get("target", "")), "postgresql", "", 0)
    analysis = await analyst.analyse(str(asked.get("sql", "")))
    units, problem = await resolved(analyst, analysis, lambda _name: None)
    scope = scope_of(asked.get("search_path"), "")
    judged = judge(policies, grant, Where(target, "", time.time(), scope), units, problem)
    found = matching(policies, grant, len(grant.chain), target, "")
    return {
        "id": asked.get("id"),
        "verdict": judged.verdict.value,
        "rules": list(judged.rules),
        "rule": judged.rule or None,
        "reason": judged.reason,
        "masks": [],
        "limits": [],
        "approve": None,
        "policies": [{"name": d.name, "version": d.version} for d in found],
        "analysis": {"statements": [shown(unit) for unit in units]},
    }


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
    return Grant("explain", origin, groups, tuple(Hop(name) for name in chain[1:]))
