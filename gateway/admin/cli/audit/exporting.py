# SPDX-License-Identifier: GPL-3.0-or-later
"""The export formats asciicast, jsonl and ocsf."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.admin.cli._activities import activities_of, texts_of
from gateway.admin.cli._reading import Recorded
from gateway.admin.cli._record_options import warn_of
from gateway.admin.cli.audit.export import Wanted
from gateway.admin.cli.audit.who import written
from gateway.admin.cli.output import json_text, visible
from gateway.record.reader import Listed
from gateway.ship.exports.asciicast import cast
from gateway.ship.exports.ocsf import event

_ROWS_PER_PIECE = 1000
_INNER = ("at", "events", "nonce")


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
    if wanted.what is None:
        yield from _of_nodes(recorded)


def _of_nodes(recorded: Recorded) -> Iterator[str]:
    """What nodes recorded of themselves: refused logins, changes, who read what."""
    for node in recorded.nodes():
        for frame in recorded.frames(node):
            told = {name: value for name, value in frame.meta.items() if name not in _INNER}
            if frame.kind in ("node", "refused") and told.get("event") not in (None, "progress"):
                at = datetime.fromtimestamp(frame.wall_ns / 1e9, UTC)
                document = {"type": "event", "session": node, "at": written(at), **told}
                yield json_text(document) + "\n"


def _ocsf(recorded: Recorded, wanted: Wanted) -> Iterator[str]:
    for one in _listed(recorded, wanted):
        texts = None
        if wanted.identity is not None:
            texts = texts_of(one.document["protocol"])
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
