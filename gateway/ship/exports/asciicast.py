# SPDX-License-Identifier: GPL-3.0-or-later
"""A session of SQL as asciicast v2: what a psql would have shown, at the times when it was so."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

WIDTH, HEIGHT = 120, 36
MOST_WIDTH = 60
"""Characters of a column; longer values are not cut, they only stand out."""
_RED, _YELLOW, _DIM, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_COLOURS = {"deny": _RED, "hold": _YELLOW, "would_deny": _YELLOW}
Clean = Callable[[str], str]
"""Makes recorded text fit for a terminal; line feeds and tabs stay."""
Document = Mapping[str, Any]


def cast(session: Document, operations: Iterable[Document], clean: Clean) -> Iterator[str]:
    """The lines of the file. Operations are those of `audit replay`, in pieces or whole."""
    began = _seconds(session["opened"]) or 0.0
    chain = clean(" > ".join(session["chain"]))
    header = {
        "version": 2,
        "width": WIDTH,
        "height": HEIGHT,
        "timestamp": int(began),
        "title": f"{chain} on {clean(session['target'] or '?')}, session {session['id']}",
        "env": {"TERM": "xterm-256color"},
    }
    yield _line(header)
    screen = _Screen(began)
    prompt = f"{clean(session['target'] or '')}=> "
    yield screen.at(began, f"{_DIM}-- {header['title']}{_PLAIN}\n{prompt}")
    writer = _Writer(clean, prompt)
    for operation in operations:
        for at, text in writer.piece(operation):
            yield screen.at(_seconds(at), text)
    for at, text in writer.finish(session["closed"]):
        yield screen.at(_seconds(at), text)


class _Screen:
    """Output events, whose times never go back."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._last = 0.0

    def at(self, seconds: float | None, text: str) -> str:
        if seconds is not None:
            self._last = max(self._last, seconds - self._began)
        return _line([round(self._last, 6), "o", text.replace("\n", "\r\n")])


Timed = Iterator[tuple[str | None, str]]


class _Writer:
    """What stands on the screen, operation by operation."""

    def __init__(self, clean: Clean, prompt: str) -> None:
        self._clean = clean
        self._prompt = prompt
        self._now: Any = None
        self._last: Document = {}
        self._widths: list[int] = []
        self._rows = 0

    def piece(self, operation: Document) -> Timed:
        if self._now != operation["seq"]:
            yield from self._end()
            self._now, self._rows, self._widths = operation["seq"], 0, []
            yield operation["started"], self._asked(operation)
        self._last = operation
        goes_on = operation.get("part", 1) > 1
        for result in operation["results"]:
            text = self._result(result, goes_on)
            goes_on = False
            if text:
                yield operation["ended"], text

    def finish(self, closed: str | None) -> Timed:
        yield from self._end()
        yield closed, "\\q\n"

    def _end(self) -> Timed:
        if self._now is None:
            return
        text = self._counted() + self._outcome(self._last)
        yield self._last["ended"], text + self._prompt

    def _asked(self, operation: Document) -> str:
        request = operation["request"]
        text = _text(request["text"]) if request["text"] is not None else "(sealed)"
        shown = self._clean(text).rstrip("\n") or ";"
        if request["parameters"]:
            values = ", ".join(self._clean(_text(one)) for one in request["parameters"])
            shown += f"\n{_DIM}-- with {values}{_PLAIN}"
        decision = operation["decision"]
        verdict = str(decision.get("verdict") or "")
        if verdict in _COLOURS:
            rule = "/".join(str(decision[key]) for key in ("policy", "rule") if decision.get(key))
            why = f"{verdict}: {rule}: {decision.get('reason') or ''}".rstrip(": ")
            shown += f"\n{_COLOURS[verdict]}-- {self._clean(why)}{_PLAIN}"
        return shown + "\n"

    def _result(self, result: Document, goes_on: bool) -> str:
        if "copy" in result:
            direction, size = result["copy"]["direction"], result["copy"]["bytes"]
            return f"{_DIM}-- COPY {self._clean(str(direction))}: {size} bytes{_PLAIN}\n"
        columns = [self._clean(_text(name)) for name in result.get("columns") or ()]
        rows = [[self._clean(_text(cell)) for cell in row] for row in result.get("rows") or ()]
        if not goes_on:
            before, self._rows = self._counted(), 0
            self._widths = _widths(columns, rows)
            head = _row(columns, self._widths) + "-+-".join("-" * n for n in self._widths) + "\n"
        else:
            before, head = "", ""
        self._rows += len(rows)
        return before + head + "".join(_row(row, self._widths) for row in rows)

    def _counted(self) -> str:
        if not self._widths:
            return ""
        return f"({self._rows} row{'' if self._rows == 1 else 's'})\n\n"

    def _outcome(self, operation: Document) -> str:
        outcome = operation["outcome"]
        error = outcome.get("error")
        if error:
            message = error.get("message") or error.get("sqlstate") or "failed"
            return f"{_RED}ERROR:  {self._clean(_text(message))}{_PLAIN}\n"
        tag = outcome.get("tag")
        return f"{self._clean(str(tag))}\n" if tag and not self._widths else ""


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    cells = zip_longest(columns, *rows, fillvalue="")
    return [min(MOST_WIDTH, max(len(cell) for cell in one)) for one in cells]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [*cells, *[""] * (len(widths) - len(cells))]
    wide = [*widths, *[0] * (len(padded) - len(widths))]
    shown = (cell.ljust(width) for cell, width in zip(padded, wide, strict=True))
    return " | ".join(shown).rstrip() + "\n"


def _text(value: Any) -> str:
    """Text as it is, null as nothing, bytes as PostgreSQL shows them."""
    if value is None:
        return ""
    if isinstance(value, Mapping) and "base64" in value:
        try:
            return "\\x" + base64.b64decode(str(value["base64"])).hex()
        except ValueError:
            return str(value["base64"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _seconds(time: str | None) -> float | None:
    try:
        return datetime.fromisoformat(time).timestamp() if time else None
    except ValueError:
        return None


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": ")) + "\n"
