# SPDX-License-Identifier: GPL-3.0-or-later
"""The export formats asciicast, jsonl and ocsf."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.admin.cli._activities import Texts, activities_of
from gateway.admin.cli._reading import Recorded
from gateway.admin.cli._record_options import warn_of
from gateway.admin.cli.audit.export import Wanted
from gateway.admin.cli.output import json_text, visible
from gateway.record.reader import Listed
from gateway.ship.exports.asciicast import cast
from gateway.ship.exports.ocsf import event

_ROWS_PER_PIECE = 1000


def export(wanted: Wanted) -> None:
    """Write it as it is read, so that memory does not grow with the record. Raises Failed."""
    recorded = wanted.options.opened(wanted.identity)
    for line in _WRITERS[wanted.format](recorded, wanted):
        wanted.out.write(line.encode())
    warn_of(recorded)


def _asciicast(recorded: Recorded, wanted: Wanted) -> Iterator[str]:
    session = recorded.session(wanted.session())
    operations = recorded.operations(session, _ROWS_PER_PIECE)
    yield from cast(session, operations, lambda text: visible(text, lines=True))


def _jsonl(recorded: Recorded, wanted: Wanted) -> Iterator[str]:
    for one in _listed(recorded, wanted):
        session = one.document
        yield json_text({"type": "session", **session}) + "\n"
        for operation in recorded.operations(session, _ROWS_PER_PIECE):
            yield json_text({"type": "operation", "session": session["id"], **operation}) + "\n"


def _ocsf(recorded: Recorded, wanted: Wanted) -> Iterator[str]:
    for one in _listed(recorded, wanted):
        texts = None
        if wanted.identity is not None:
            texts = Texts(recorded.operations(one.document, _ROWS_PER_PIECE))
        for activity in activities_of(one, recorded.frames(one.document["id"]), texts):
            yield json_text(event(activity)) + "\n"


def _listed(recorded: Recorded, wanted: Wanted) -> list[Listed]:
    only = recorded.find(wanted.what) if wanted.what is not None else None
    listed = recorded.listed()
    return listed if only is None else [one for one in listed if one.document["id"] == only]


_WRITERS: Mapping[str, Callable[[Recorded, Wanted], Iterator[Any]]] = {
    "asciicast": _asciicast,
    "jsonl": _jsonl,
    "ocsf": _ocsf,
}
