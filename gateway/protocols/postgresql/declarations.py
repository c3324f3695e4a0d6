# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operation that ended did to its session's names and settings, as policy declared it."""

from __future__ import annotations

from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.pipeline import Pipeline, Request
from gateway.protocols.postgresql.statements import Names, Portal, Statement


def declare(pipeline: Pipeline, request: Request, ok: bool) -> None:
    """Apply what `request` declares. Not `ok`: it failed, maybe after part of it took effect."""
    names, settings = pipeline.names, pipeline.settings
    codec = settings.codec or "utf-8"
    for declared in request.declares:
        name, text = declared.name, declared.text
        raw = name.encode(codec, "replace")
        if declared.kind == "setting":
            _set(pipeline, request, name.lower(), text, ok)
        elif declared.kind == "role":
            _set(pipeline, request, "role", text or name, ok)
        elif declared.kind == "prepare":
            names.prepared(raw, text, request.operation, surely=ok)
        elif declared.kind == "cursor":
            _declare_cursor(names, raw, text, request.operation, ok)
        elif ok and declared.kind == "deallocate":
            names.deallocate(raw)
        elif ok and declared.kind == "close_cursor":
            names.close_cursor(raw)
        elif ok and declared.kind == "discard" and name.upper() in ("", "ALL"):
            names.deallocate(b"")
            names.portals.clear()
            settings.discard()


def _set(pipeline: Pipeline, request: Request, name: str, value: str, ok: bool) -> None:
    """A simple Query's reported settings are known already: ParameterStatus came first."""
    settings = pipeline.settings
    if request.kind == wire.QUERY and settings.reported(name):
        return
    if ok or request.unwound:
        settings.declare(name, value if ok and not request.unwound else "")


def _declare_cursor(names: Names, name: bytes, text: str, operation: int, ok: bool) -> None:
    old = names.portals.get(name)
    if ok or old is None:
        names.portals[name] = Portal(Statement(text, operation), None)
    elif old.statement.text != text:
        doubt = "two texts may stand under this name after a failed statement"
        names.portals[name] = Portal(Statement(None, operation, doubt), None)
