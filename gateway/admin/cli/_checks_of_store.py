# SPDX-License-Identifier: GPL-3.0-or-later
"""What `doctor` looks at where grants are kept; nothing is written there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from gateway.admin.cli._checks import NOTE, OK, WRONG, Finding
from gateway.store.dsn import Dsn

OLDEST = 130_000
"""PostgreSQL 13: older ones are no longer mended by its makers."""
APART = 2.0
"""Seconds by which the clocks of gateway and server may differ without a word."""
ASK = """SELECT current_setting('server_version_num')::int AS version,
    current_setting('synchronous_commit') AS synchronous,
    extract(epoch FROM clock_timestamp())::float8 AS now,
    has_schema_privilege(current_schema(), 'CREATE') AS may_create,
    coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS tls"""


def check_store(place: Path | Dsn) -> Iterator[Finding]:
    """The file or its folder can be written; the server lets us in, takes writes, keeps them."""
    if isinstance(place, Dsn):
        yield from _server(place)
    else:
        yield _file(place)


def _file(path: Path) -> Finding:
    there = path if path.exists() else path.parent
    if os.access(there, os.R_OK | os.W_OK) and (path.is_file() or not path.exists()):
        return Finding("store", str(path), OK, "is writable, for this gateway alone")
    cure = f"let the gateway's user write {there}; run doctor as that user"
    return Finding("store", str(path), WRONG, "is no file that this user may write", cure)


def _server(dsn: Dsn) -> Iterator[Finding]:
    try:
        with psycopg.connect(dsn.conninfo, autocommit=True, row_factory=dict_row) as link:
            row = link.execute(ASK).fetchone()
    except psycopg.Error as error:
        cause = error.diag.message_primary or str(error)
        cure = "check its address, TLS, user and password, and that it takes writes"
        yield Finding("store", dsn.shown, WRONG, " ".join(cause.split()), cure)
        return
    assert row is not None
    found = [Finding("store", dsn.shown, *one) for one in _weak(dsn, row)]
    yield from found
    if WRONG not in {one.state for one in found}:
        tls = "TLS" if row["tls"] else "no TLS"
        yield Finding("store", dsn.shown, OK, f"lets us in, {tls}")


def _weak(dsn: Dsn, row: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What of the server's answers is wrong, or could be better, each with its cure."""
    if row["version"] < OLDEST:
        yield WRONG, f"is PostgreSQL {row['version'] // 10_000}", "take 13 or later"
    if not row["may_create"]:
        cure = "GRANT CREATE ON SCHEMA to the gateway's user"
        yield WRONG, "does not let this user make tables", cure
    if dsn.unproven:
        cure = "use sslmode=verify-full and sslrootcert=FILE"
        yield NOTE, f"{dsn.unproven} does not prove who answers", cure
    if row["synchronous"] == "off":
        yield NOTE, "is set to lose commits", "set synchronous_commit = on; the gateway does"
    apart = abs(time.time() - row["now"])
    if apart > APART:
        cure = "keep both by a time service; grants expire by the server's clock"
        yield NOTE, f"its clock and this machine's are {apart:.0f} s apart", cure
