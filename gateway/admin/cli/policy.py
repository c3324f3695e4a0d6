# SPDX-License-Identifier: GPL-3.0-or-later
"""Check policies: lint, the documents' own tests, and explain what would be decided and why."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.admin.cli._groups import Group
from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import Failed, print_json, visible
from gateway.policy.documents import TEST_IDENTITY, PolicyError, PolicySet
from gateway.proxy.analyst import Analyst
from gateway.proxy.explaining import explained, own_tests

_FILES = click.Path(path_type=Path, exists=True)
_OPERATION = ("id", "target", "as", "sql", "exec", "request", "tool", "parameters", "search_path")


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  trailgate policy lint policies/
  trailgate policy test policies/
  trailgate policy explain --policy policies/ --target orders --sql 'select 1'

Exit codes: 0 sound, passed or answered, 1 mistakes, 2 could not be done.""",
)
def policy() -> None:
    """Check policies before they are in force."""


COMMAND = policy


def _load(paths: Sequence[Path]) -> PolicySet:
    try:
        return PolicySet.load(paths)
    except PolicyError as exc:
        raise Failed(str(exc), "correct the lines named above", 1) from None


@policy.command(
    epilog="""\b
Example:
  trailgate policy lint policies/

Exit codes: 0 sound, 1 mistakes, 2 could not be done."""
)
@click.argument("paths", nargs=-1, required=True, type=_FILES)
@output_option("text", "json")
def lint(paths: Sequence[Path], output: str) -> None:
    """Every mistake of the documents at its line."""
    mistakes: list[str] = []
    names: list[tuple[str, str]] = []
    try:
        names = [(d.place, d.name) for d in PolicySet.load(paths).documents]
    except PolicyError as exc:
        mistakes = str(exc).splitlines()
    if output == "json":
        findings = [_finding(line) for line in mistakes]
        print_json({"ok": not mistakes, "policies": [n for _, n in names], "findings": findings})
    else:
        for line in mistakes or [f"{place}: ok ({name})" for place, name in names]:
            click.echo(visible(line))
    sys.exit(1 if mistakes else 0)


def _finding(line: str) -> dict[str, Any]:
    place, _, detail = line.partition(": ")
    path, _, number = place.rpartition(":")
    return {"path": path, "line": int(number), "detail": detail}


@policy.command(
    epilog="""\b
Example:
  trailgate policy test policies/

Exit codes: 0 all pass, 1 something fails, 2 could not be done."""
)
@click.argument("paths", nargs=-1, required=True, type=_FILES)
@output_option("text", "json")
def test(paths: Sequence[Path], output: str) -> None:
    """Run the documents' own tests, each document by itself."""
    results = asyncio.run(_run_tests(_load(paths)))
    failed = [result for result in results if not result["ok"]]
    if output == "json":
        print_json(results)
    else:
        for result in results:
            click.echo(visible(_told(result)))
        click.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


def _told(result: Mapping[str, Any]) -> str:
    got, expected = (
        f"{verdict} by {rule}" if rule else verdict
        for verdict, rule in (result["got"].values(), result["expected"].values())
    )
    if result["ok"]:
        return f"ok    {result['path']}:{result['line']}: {got}"
    why = f" ({result['reason']})" if result["reason"] else ""
    return f"FAIL  {result['path']}:{result['line']}: expected {expected}, got {got}{why}"


async def _run_tests(policies: PolicySet) -> list[dict[str, Any]]:
    analyst = Analyst(children=1)
    try:
        return [result async for result in own_tests(policies, analyst)]
    finally:
        await analyst.close()


@policy.command(
    epilog="""\b
Example:
  trailgate policy explain --policy p.yaml --target shop \\
    --as '{"groups": ["agents"]}' --sql 'delete from orders'

Exit codes: 0 answered, whatever the answer, 1 a document has mistakes, 2 not an operation."""
)
@click.option(
    "--policy",
    "paths",
    multiple=True,
    required=True,
    type=_FILES,
    help="A document, or a folder of them. Repeatable.",
)
@click.option(
    "--as", "who", default="{}", help='Who asks: {"groups": [..], "chain": ["alice", ..]}, in JSON.'
)
@click.option("--target", default="", help="The target's name.")
@click.option("--sql", default="", help="What is asked, as SQL.")
@click.option("--stdin", "lines", is_flag=True, help="A JSON object a line; answers a line each.")
@output_option("text", "json")
def explain(
    paths: Sequence[Path], who: str, target: str, sql: str, lines: bool, output: str
) -> None:
    """What would be decided of one operation, by which rules, and what the parser saw."""
    policies = _load(paths)
    if not lines and not (target and sql):
        raise Failed("which operation?", "give --target and --sql, or --stdin")
    one = [("--as", f'{{"as": {who}}}')]
    extra = {} if lines else {"target": target, "sql": sql}
    asyncio.run(_explain(policies, _lines() if lines else iter(one), extra, output))


def _lines() -> Iterator[tuple[str, str]]:
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            yield f"standard input:{number}", line


async def _explain(
    policies: PolicySet, asked: Iterator[tuple[str, str]], extra: Mapping[str, Any], output: str
) -> None:
    analyst = Analyst(children=1)
    try:
        for place, line in asked:
            answer, _ = await explained(policies, analyst, {**_operation(place, line), **extra})
            if output == "json" or not extra:
                print_json(answer)
            else:
                click.echo(visible(_explanation(answer), lines=True))
            sys.stdout.flush()
    finally:
        await analyst.close()


def _operation(place: str, line: str) -> dict[str, Any]:
    """One line, checked. Raises Failed."""
    try:
        asked = json.loads(line)
    except ValueError as exc:
        raise Failed(f"{place}: not JSON: {exc}", "one JSON object a line") from None
    who = asked.get("as") if isinstance(asked, dict) else None
    if not isinstance(asked, dict) or not isinstance(who or {}, dict):
        raise Failed(f"{place}: not an operation", 'give {"target": .., "as": {..}, "sql": ..}')
    unknown = sorted(set(who or {}) - set(TEST_IDENTITY)) or sorted(set(asked) - set(_OPERATION))
    if unknown:
        raise Failed(f"{place}: unknown key `{unknown[0]}`", "see trailgate policy explain --help")
    for language in ("exec", "request", "tool"):
        if language in asked:
            raise Failed(f"{place}: this version explains `sql` only", f"take out `{language}`")
    if not all(isinstance(asked.get(key, ""), str) for key in ("target", "sql", "search_path")):
        raise Failed(f"{place}: target, sql and search_path are texts", "put them in quotes")
    return asked


def _explanation(answer: Mapping[str, Any]) -> str:
    lines = [": ".join(word for word in (answer["verdict"], answer["reason"]) if word)]
    for rule in answer["rules"]:
        lines.append(f"  rule {rule}")
    for document in answer["policies"]:
        lines.append(f"  policy {document['name']} {document['version'][:12]}")
    for statement in answer["analysis"]["statements"]:
        parts = [
            f"{key} {', '.join(names)}"
            for key, names in statement.items()
            if key != "kind" and names
        ]
        lines.append("  " + "; ".join([f"statement {statement['kind']}", *parts]))
    return "\n".join(lines)
