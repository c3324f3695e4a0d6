# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates, and recorded text made fit for a page: escaped, and what is invisible made visible."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gateway.admin.cli.output import visible

_MOST_TEXT = 100_000
"""Characters of a statement or value on a page."""


def environment() -> Environment:
    """Autoescaped; a name that is not given is an error."""
    made = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(seen=seen, day=day, clock=clock, number=number, seconds=seconds)
    return made


def seen(value: Any) -> Markup:
    """Any recorded value: controls, bidi and zero-width characters stand out and do nothing."""
    text = plain(value)
    cut = len(text) - _MOST_TEXT
    pieces: list[Markup] = []
    run: list[str] = []
    for character in text[:_MOST_TEXT]:
        shown = visible(character, lines=True)
        if shown == character:
            run.append(character)
            continue
        pieces.append(escape("".join(run)))
        run = []
        pieces.append(Markup('<span class="control">{}</span>').format(shown))
    pieces.append(escape("".join(run)))
    if cut > 0:
        pieces.append(Markup('<span class="more">… {} more characters</span>').format(cut))
    return Markup("").join(pieces)


def plain(value: Any) -> str:
    """Text as it is, null as nothing, bytes in hexadecimal."""
    if value is None:
        return ""
    if isinstance(value, Mapping) and "base64" in value:
        try:
            return "\\x" + base64.b64decode(str(value["base64"])).hex()
        except ValueError:
            return str(value["base64"])
    return str(value)


def day(time: str | None) -> str:
    """2026-11-24 12:00:00."""
    return (time or "")[:19].replace("T", " ")


def clock(time: str | None) -> str:
    """12:00:00.123."""
    return (time or "")[11:23]


def number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def seconds(begun: str | None, ended: str | None) -> str:
    """How long it took, in the unit that is read best."""
    try:
        span = datetime.fromisoformat(ended or "") - datetime.fromisoformat(begun or "")
    except ValueError:
        return ""
    took = span.total_seconds()
    if took < 1:
        return f"{took * 1000:.1f} ms"
    return f"{took:.1f} s" if took < 120 else f"{took / 60:.0f} min"
