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
        yield "  " * depth + click.style(visible(node["actor"]), bold=True) + named_by_parent(node)
        if not node["sessions"] and not node["children"]:
            yield "  " * depth + click.style("  no session", dim=True)
        for one in node["sessions"]:
            counts = f"{_number(one['operations'])} operations, {_number(one['denied'])} denied"
            yield "  " * depth + f"  - {one['id']}  {visible(one['target'] or '')}  {counts}"
        yield from tree_lines(node["children"], depth + 1)


def named_by_parent(node: Mapping[str, Any]) -> str:
    """What stands behind an actor that proved itself to nobody."""
    return "" if node["proved"] else click.style("  (named by its parent)", dim=True)


def session_facts(session: Mapping[str, Any]) -> Iterator[str]:
    """`sessions show`: a fact a line."""
    for name, value in session.items():
        if isinstance(value, list):
            joint = " > " if name == "chain" else ", "
            value = joint.join(_fact(one) for one in value)
        elif isinstance(value, Mapping):
            value = ", ".join(f"{key}={_fact(one)}" for key, one in value.items())
        yield f"{name:<11} {visible('-' if value in (None, '') else str(value))}"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        # A policy: its name and how it was in force.
        return " ".join(str(value[key]) for key in ("name", "mode") if key in value)
    return str(value)


def operation_lines(operation: Mapping[str, Any], clean: Clean) -> Iterator[str]:
    """One whole operation: time, verdict, statement, results, outcome."""
    told = OperationText(clean)
    yield from told.piece(operation)
    yield from told.finish()


class OperationText:
    """Operations for a terminal, as they come: whole, or large ones piece by piece.

    Of each result the first rows are shown and the rest is counted.
    """

    def __init__(self, clean: Clean) -> None:
        self._clean = clean
        self._now: tuple[Any, Any] | None = None
        self._last: Mapping[str, Any] = {}
        self._columns: list[str] | None = None
        self._more_rows = 0
        self._copied: dict[str, int] = {}

    def piece(self, operation: Mapping[str, Any], whose: Any = None) -> Iterator[str]:
        """An operation or its next piece; `whose` tells the sessions of a timeline apart."""
        if self._now != (whose, operation["seq"]):
            yield from self.finish()
            self._now = (whose, operation["seq"])
            yield from _head_lines(operation, self._clean)
        self._last = operation
        goes_on = operation.get("part", 1) > 1
        for result in operation["results"]:
            if "copy" in result:
                copy = result["copy"]
                self._copied.setdefault(copy["direction"], 0)
                self._copied[copy["direction"]] += copy["bytes"]
            else:
                yield from self._rows(result, goes_on)
            goes_on = False

    def finish(self) -> Iterator[str]:
        """What stands below the last operation."""
        if self._now is None:
            return
        if self._more_rows:
            yield f"    ... {self._more_rows} more rows are in -o jsonl"
        for direction, size in self._copied.items():
            yield f"    COPY {self._clean(str(direction))}: {size} bytes, which are in -o jsonl"
        yield from _outcome_lines(self._last["outcome"], self._clean)
        yield ""
        self._now, self._columns, self._more_rows, self._copied = None, None, 0, {}

    def _rows(self, result: Mapping[str, Any], goes_on: bool) -> Iterator[str]:
        clean = self._clean
        rows = result.get("rows") or []
        columns = [clean(_text(name)) for name in result.get("columns") or ()]
        if goes_on and columns == self._columns:
            self._more_rows += len(rows)
            return
        if self._more_rows:
            yield f"    ... {self._more_rows} more rows are in -o jsonl"
        self._columns, self._more_rows = columns, max(0, len(rows) - ROWS_SHOWN)
        if not columns:
            self._more_rows = len(rows)
            return
        cells = [[clean(_text(cell)) for cell in row] for row in rows[:ROWS_SHOWN]]
        widths = [min(60, max(map(len, one))) for one in zip(columns, *cells, strict=False)]
        yield "    " + click.style(_row(columns, widths), bold=True)
        yield "    " + "-+-".join("-" * width for width in widths)
        yield from ("    " + _row(row, widths) for row in cells)


def _head_lines(operation: Mapping[str, Any], clean: Clean) -> Iterator[str]:
    decision = operation["decision"]
    verdict = clean(str(decision.get("verdict") or "unknown"))
    mark = click.style(f"{verdict:<10}", fg=_COLOURS.get(verdict), bold=verdict != "allow")
    at = click.style((operation["started"] or "")[11:23], dim=True)
    first, *rest = _statement(operation["request"], clean)
    yield f"{at}  {mark}  {first}"
    yield from (f"{'':26}{line}" for line in rest)
    if operation["request"]["parameters"]:
        shown = ", ".join(clean(_text(value)) for value in operation["request"]["parameters"])
        yield f"{'':26}with {shown}"
    if verdict != "allow" and decision.get("reason"):
        rule = "/".join(str(decision[key]) for key in ("policy", "rule") if decision.get(key))
        reason = f"{rule}: {decision['reason']}" if rule else str(decision["reason"])
        yield click.style(f"{'':26}{clean(reason)}", fg=_COLOURS.get(verdict))


def _statement(request: Mapping[str, Any], clean: Clean) -> list[str]:
    """Its lines; sealed, the statement without its values."""
    if request["text"] is not None:
        return clean(_text(request["text"])).strip().splitlines() or ["(empty)"]
    if request.get("clear"):
        return f"{clean(str(request['clear']))}  (values are sealed)".splitlines()
    return ["(not in the record, or sealed)"]


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
