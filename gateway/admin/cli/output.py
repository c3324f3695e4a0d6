# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands share in printing: failures, tables, JSON, and text made safe for a terminal."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import IO, Any, TextIO

import click

_SAFE_SPACE = {" "}
_BEYOND_ASCII = re.compile("[\x7f-\U0010ffff]")


class Failed(click.ClickException):
    """A command could not be done: what is wrong and, behind it, what to do next.

    `exit_code` 1: the answer is no; 2: it could not be done.
    """

    def __init__(self, message: str, cure: str = "", exit_code: int = 2) -> None:
        super().__init__(message)
        self.cure = cure
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        """On standard error, for a person."""
        click.echo(f"trailgate: {self.message}", file=file, err=True)
        if self.cure:
            click.echo(f"  next: {self.cure}", file=file, err=True)


def visible(text: str, *, lines: bool = False) -> str:
    """Text in which control, escape and bidi characters can be seen and do nothing.

    `lines` leaves line feeds and tabs as they are.
    """
    return "".join(c if lines and c in "\n\t" else _seen(c) for c in text)


def _seen(character: str) -> str:
    # Cc: C0 and C1 controls (ESC, CSI); Cf: bidi overrides, zero-width; Zl, Zp: line separators.
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"):
        code = ord(character)
        return f"\\x{code:02x}" if code < 256 else f"\\u{{{code:x}}}"
    if category == "Zs" and character not in _SAFE_SPACE:
        return f"\\u{{{ord(character):x}}}"
    return character


def json_text(document: Any) -> str:
    """JSON on one line. What could drive a terminal is escaped; it means the same."""
    text = json.dumps(document, ensure_ascii=False, separators=(", ", ": "))
    return text if text.isprintable() and text.isascii() else _BEYOND_ASCII.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if _seen(character) == character:
        return character
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def print_json(document: Any, out: TextIO | None = None) -> None:
    """One JSON document, and nothing else, on standard output."""
    print(json_text(document), file=out or sys.stdout)


def print_documents(rows: Iterable[Any], output: str) -> None:
    """A list as one JSON document (`json`) or a line an element (`jsonl`)."""
    if output == "json":
        print_json(list(rows))
        return
    for row in rows:
        print_json(row)


def table(rows: Sequence[Sequence[str]], heading: Sequence[str], *, cap: int = 60) -> str:
    """A plain table; cells are made visible, and cut at `cap` characters."""
    cells = [[_cut(visible(cell), cap) for cell in row] for row in (heading, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heading))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    return "\n".join((click.style(lines[0], bold=True), *lines[1:]))


def _cut(text: str, cap: int) -> str:
    return text if len(text) <= cap else text[: cap - 1] + "…"
