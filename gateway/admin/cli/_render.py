# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions and operations for a terminal. What was recorded cannot drive it: see output.visible."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click

from gateway.admin.cli.output import table, visible

_COLOURS = {"allow": "green", "deny": "red", "would_deny": "yellow", "hold": "yellow"}
ROWS_SHOWN = 50

Clean = Callable[[str], str]


def cleaner(*, raw: bool) -> Clean:
    """What makes recorded text fit for the terminal; with `raw`, nothing does."""
    return (lambda text: text) if raw else (lambda text: visible(text, lines=True))


def session_lines(sessions: Iterable[Mapping[str, Any]]) -> str:
    """`sessions list` as a table, oldest first."""
    rows = [
        [
            one["id"],
            _short(one["opened"]),
            one["state"],
            one["target"] or "",
            " > ".join(one["chain"]),
            _number(one["operations"]),
            _number(one["denied"]),
            _number(one["rows"]),
        ]
        for one in sessions
    ]
    heading = ("session", "opened", "state", "target", "who", "operations", "denied", "rows")
    return table(rows, heading, cap=72)


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _short(time: str | None) -> str:
    return (time or "")[:19].replace("T", " ")


def tree_lines(nodes: Iterable[Mapping[str, Any]], depth: int = 0) -> Iterator[str]:
    """`sessions tree`: each actor, its sessions, and those that it started below it."""
    for node in nodes:
        proved = "" if node["proved"] else click.style("  (named by its parent)", dim=True)
        yield "  " * depth + click.style(visible(node["actor"]), bold=True) + proved
        for one in node["sessions"]:
            counts = f"{_number(one['operations'])} operations, {_number(one['denied'])} denied"
            yield "  " * depth + f"  - {one['id']}  {visible(one['target'] or '')}  {counts}"
        yield from tree_lines(node["children"], depth + 1)


def operation_lines(operation: Mapping[str, Any], clean: Clean) -> Iterator[str]:
    """One operation: time, verdict, statement, results, outcome."""
    decision = operation["decision"]
    verdict = decision.get("verdict") or "unknown"
    mark = click.style(f"{verdict:<10}", fg=_COLOURS.get(verdict), bold=verdict != "allow")
    at = click.style((operation["started"] or "")[11:23], dim=True)
    text = clean(_text(operation["request"]["text"])).strip()
    first, *rest = text.splitlines() or ["(not in the record)"]
    yield f"{at}  {mark}  {first}"
    yield from (f"{'':26}{line}" for line in rest)
    if operation["request"]["parameters"]:
        shown = ", ".join(clean(_text(value)) for value in operation["request"]["parameters"])
        yield f"{'':26}with {shown}"
    if verdict != "allow" and decision.get("rule"):
        reason = f"{decision['policy']}/{decision['rule']}: {decision.get('reason') or ''}"
        yield click.style(f"{'':26}{clean(reason)}", fg=_COLOURS.get(verdict))
    for result in operation["results"]:
        yield from _result_lines(result, clean)
    yield from _outcome_lines(operation["outcome"], clean)
    yield ""


def _result_lines(result: Mapping[str, Any], clean: Clean) -> Iterator[str]:
    columns = [clean(_text(name)) for name in result.get("columns") or ()]
    rows = result.get("rows") or []
    if not columns:
        return
    cells = [[clean(_text(cell)) for cell in row] for row in rows[:ROWS_SHOWN]]
    widths = [min(60, max(map(len, column))) for column in zip(columns, *cells, strict=False)]
    yield "    " + click.style(_row(columns, widths), bold=True)
    yield "    " + "-+-".join("-" * width for width in widths)
    yield from ("    " + _row(row, widths) for row in cells)
    if len(rows) > ROWS_SHOWN:
        yield f"    ... {len(rows) - ROWS_SHOWN} more rows are in -o json"


def _row(cells: list[str], widths: list[int]) -> str:
    shown = (cell.replace("\n", "\\n").replace("\t", "\\t") for cell in cells)
    return " | ".join(
        (text if len(text) <= width else text[: width - 1] + "…").ljust(width)
        for text, width in zip(shown, widths, strict=False)
    ).rstrip()


def _outcome_lines(outcome: Mapping[str, Any], clean: Clean) -> Iterator[str]:
    error = outcome.get("error")
    if error:
        words = error if isinstance(error, str) else _error_words(error)
        yield click.style("    " + clean(words), fg="red")
    elif outcome.get("tag"):
        yield click.style(f"    {clean(str(outcome['tag']))}", dim=True)
    elif outcome.get("rows") is None:
        yield click.style("    outcome unknown", fg="yellow")


def _error_words(error: Mapping[str, Any]) -> str:
    parts = (error.get("severity"), error.get("sqlstate"), error.get("message"))
    return " ".join(_text(part) for part in parts if part)


def _text(value: Any) -> str:
    """A recorded value: text, null, or bytes as {"base64": ...}."""
    if value is None:
        return "NULL"
    if isinstance(value, Mapping) and "base64" in value:
        return "\\x" + base64.b64decode(value["base64"])[:64].hex()
    return str(value)
