# SPDX-License-Identifier: GPL-3.0-or-later
"""From the lines of a log, of whichever of the three forms, to entries."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import tzinfo
from typing import Any

from gateway.protocols.postgresql.server_log.entries import (
    BadLog,
    Entry,
    Kind,
    application_of,
    client_of,
    instant,
    told_of,
    user_of,
)
from gateway.protocols.postgresql.server_log.lines import MOST_ENTRY, Lines
from gateway.protocols.postgresql.server_log.prefix import Prefix

_CSV = re.compile(rb'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [^\s,"]+,')
_CSV_FIELDS = (
    *("log_time", "user", "dbname", "pid", "client", "session_id", "line_num", "ps"),
    *("session_start", "vxid", "txid", "error_severity", "state_code", "message", "detail"),
    *("hint", "internal_query", "internal_position", "context", "statement", "cursor_position"),
    *("location", "application_name", "backend_type", "leader_pid"),
)
_CLIENTS = frozenset({"client backend", "walsender"})
Noise = Callable[[int], None]
"""Told the number of a line that is of no entry."""


def entries_of(
    lines: Lines, prefix: Prefix, zone: tzinfo | None = None, noise: Noise = lambda line: None
) -> Iterator[Entry]:
    """Entries in their order. The form is seen by the first line that is not empty.

    Raises BadLog.
    """
    source = iter(lines)
    first = next((line for line in source if line.strip()), b"")
    if first.startswith(b"{"):
        return _json(lines, itertools.chain([first], source), zone, noise)
    if _CSV.match(first):
        return _csv(lines, first, source, zone, noise)
    return _stderr(lines, first, source, prefix, zone, noise)


# --- jsonlog -------------------------------------------------------------------------------------


def _json(
    lines: Lines, source: Iterator[bytes], zone: tzinfo | None, noise: Noise
) -> Iterator[Entry]:
    for line in source:
        fields = _json_fields(line)
        if fields is None:
            if line.strip():
                noise(lines.number)
            continue
        host, port = fields.get("remote_host"), fields.get("remote_port")
        client = f"{host}:{port}" if host and port else host
        yield _structured(lines.number, {**fields, "client": client}, fields["timestamp"], zone)


def _json_fields(line: bytes) -> dict[str, Any] | None:
    text = line.decode("utf-8", "replace")
    # An entry that was cut was cut in its long text: PostgreSQL writes the short members first.
    tries = [text] if len(line) < MOST_ENTRY else [text[: len(text) - n] + '"}' for n in range(7)]
    for one in tries:
        try:
            fields = json.loads(one)
        except (ValueError, RecursionError):
            continue
        sound = isinstance(fields, dict) and type(fields.get("pid")) is int
        return fields if sound and isinstance(fields.get("timestamp"), str) else None
    return None


# --- csvlog --------------------------------------------------------------------------------------


def _csv(
    lines: Lines, first: bytes, source: Iterator[bytes], zone: tzinfo | None, noise: Noise
) -> Iterator[Entry]:
    for number, record in _csv_records(lines, first, source):
        values = next(csv.reader([record], strict=False), [])
        fields: dict[str, Any] = dict(zip(_CSV_FIELDS, values, strict=False))
        if not fields.get("pid", "").isdigit() or "message" not in fields:
            noise(number)
            continue
        fields["pid"], leader = int(fields["pid"]), fields.get("leader_pid", "")
        fields["leader_pid"] = int(leader) if leader.isdigit() else None
        yield _structured(number, fields, fields["log_time"], zone)


def _csv_records(lines: Lines, first: bytes, source: Iterator[bytes]) -> Iterator[tuple[int, str]]:
    """Records of several lines put together: while a quote is open, the next line belongs to it."""
    kept, number, inside = bytearray(first), lines.number, lines.quotes % 2 == 1
    for line in source:
        if inside:
            if len(kept) < MOST_ENTRY:
                kept += b"\n" + line
            inside ^= lines.quotes % 2 == 1
            continue
        yield number, _csv_text(kept)
        kept, number, inside = bytearray(line), lines.number, lines.quotes % 2 == 1
    if kept.strip():
        yield number, _csv_text(kept)


def _csv_text(kept: bytearray) -> str:
    text = bytes(kept[:MOST_ENTRY]).decode("utf-8", "replace")
    return text + '"' if text.count('"') % 2 else text


# --- both ----------------------------------------------------------------------------------------


def _structured(number: int, fields: dict[str, Any], at: str, zone: tzinfo | None) -> Entry:
    severity, message = str(fields.get("error_severity", "")), str(fields.get("message", ""))
    kind, text = told_of(message, severity, str(fields.get("state_code") or ""))
    of_error = kind is Kind.OTHER and bool(fields.get("statement"))
    if of_error:
        kind, text = Kind.STATEMENT, str(fields["statement"])
    started, user = fields.get("session_start"), fields.get("user") or None
    backend, leader = fields.get("backend_type"), fields.get("leader_pid")
    if type(leader) is int:
        # A worker of a parallel query repeats what its leader's client asked.
        started, fields = None, {**fields, "pid": leader}
    return Entry(
        number,
        instant(at, zone),
        fields["pid"],
        kind,
        text,
        instant(started, zone) if isinstance(started, str) and started else None,
        user,
        fields.get("client") or None,
        application_of(message) if kind is Kind.LOGIN else fields.get("application_name") or None,
        bool(user) and (not backend or backend in _CLIENTS),
        of_error,
    )


# --- stderr --------------------------------------------------------------------------------------


def _stderr(
    lines: Lines,
    first: bytes,
    source: Iterator[bytes],
    prefix: Prefix,
    zone: tzinfo | None,
    noise: Noise,
) -> Iterator[Entry]:
    """A line that begins with a tab goes on with the message of the line before."""
    waiting: tuple[int, dict[str, str], list[str], int] | None = None
    for line in itertools.chain([first], source):
        text = line.decode("utf-8", "replace")
        if text.startswith("\t") and waiting is not None:
            number, fields, pieces, size = waiting
            if size < MOST_ENTRY:
                pieces.append(text[1:])
                waiting = number, fields, pieces, size + len(text)
            continue
        begun = prefix.fields(text)
        if begun is None:
            if text.strip():
                noise(lines.number)
            continue
        if waiting is not None:
            yield _plain(waiting, zone)
        waiting = lines.number, begun, [begun.get("message", "")], len(text)
    if waiting is not None:
        yield _plain(waiting, zone)


def _plain(waiting: tuple[int, dict[str, str], list[str], int], zone: tzinfo | None) -> Entry:
    number, fields, pieces, _ = waiting
    message, severity = "\n".join(pieces), fields["severity"]
    if severity == "STATEMENT":
        kind, text = Kind.STATEMENT, message
    else:
        kind, text = told_of(message, severity, fields.get("e", ""))
    started, pid = _identity(fields, zone)
    # Of what is no session the server writes nothing for %u; before the login, [unknown].
    user = fields.get("u")
    user = None if user in (None, "", "[unknown]") else user
    return Entry(
        number,
        _time(fields, zone),
        pid,
        kind,
        text,
        started,
        user or (user_of(message) if kind is Kind.LOGIN else None),
        _client(fields) or client_of(message),
        application_of(message) if kind is Kind.LOGIN else fields.get("a"),
        bool(user) and fields.get("b", "client backend") in _CLIENTS,
        severity == "STATEMENT",
    )


def _time(fields: dict[str, str], zone: tzinfo | None) -> float:
    if "n" in fields:
        return float(fields["n"])
    return instant(fields.get("m") or fields["t"], zone)


def _identity(fields: dict[str, str], zone: tzinfo | None) -> tuple[float | None, int]:
    """When the backend began, and its process id: %c is both, in hexadecimal.

    A worker of a parallel query repeats what its leader's client asked: it counts as its leader.
    """
    if leader := fields.get("P"):
        return None, int(leader)
    if "c" in fields:
        began, _, pid = fields["c"].partition(".")
        return float(int(began, 16)), int(pid, 16)
    if "p" not in fields:
        raise BadLog("a line does not tell its process")
    return (instant(fields["s"], zone) if "s" in fields else None), int(fields["p"])


def _client(fields: dict[str, str]) -> str | None:
    host = fields.get("r") or fields.get("h")
    if not host:
        return None
    return re.sub(r"\((\d+)\)$", r":\1", host)
