# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit who` and `violations`: who touched what, and what policy refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import click

from gateway.admin.cli._activities import Activity, activities_of, proved_to
from gateway.admin.cli._reading import Filters, Recorded, instant
from gateway.admin.cli._record_options import RecordOptions, record_options, warn_of
from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import Failed, print_documents, table, visible

_VIOLATIONS = frozenset({"deny", "hold", "would_deny"})
Document = dict[str, Any]


@click.command(
    epilog="""\b
Examples:
  trailgate audit who --table customers --data ./data
  trailgate audit who --day 2026-11-24 --session kq3v --data ./data -o json"""
)
@click.option("--table", "relation", help="Only what touched this table, by NAME or SCHEMA.NAME.")
@click.option("--day", help="Only this day in UTC, as 2026-11-24.")
@click.option("--session", help="Only this session; the start of its id is enough.")
@record_options
@output_option("table", "json", "jsonl")
def who(
    relation: str | None, day: str | None, session: str | None, output: str, **place: str | None
) -> None:
    """Who touched which objects: a line an operation and object, from the clear part.

    It is what statements name: what views, functions and triggers touch below them is not seen.

    Exit codes: 0 done, 2 no such session, or the record could not be read.
    """
    options = RecordOptions(**place)
    recorded, wanted = options.opened(), _day(day)
    only = recorded.find(session) if session is not None else None

    def fits(row: Activity) -> bool:
        return wanted is None or row["time"].astimezone(UTC).date() == wanted

    rows = documents(_activities(recorded, only, fits), proved_to(options))
    _print(recorded, (one for one in rows if _touches(one, relation)), output)


@click.command(
    epilog="""\b
Examples:
  trailgate audit violations --data ./data
  trailgate audit violations --since 2026-11-01 --until 2026-12-01 --data ./data -o jsonl"""
)
@click.option("--since", help="Only at or after this time.")
@click.option("--until", help="Only at or before this time.")
@record_options
@output_option("table", "json", "jsonl")
def violations(since: str | None, until: str | None, output: str, **place: str | None) -> None:
    """What policy denied or held, or would have denied had it been enforced.

    Exit codes: 0 done, 2 the record could not be read.
    """
    options = RecordOptions(**place)
    recorded = options.opened()
    first, last = instant(since), instant(until)

    def fits(row: Activity) -> bool:
        at = written(row["time"])
        inside = (first is None or at >= first) and (last is None or at <= last)
        return inside and row["verdict"] in _VIOLATIONS

    _print(recorded, documents(_activities(recorded, None, fits), proved_to(options)), output)


def _activities(
    recorded: Recorded, only: str | None, fits: Callable[[Activity], bool]
) -> Iterator[Activity]:
    """Operations that fit, a session after the other."""
    for listed in recorded.listed(Filters()):
        session_id = listed.document["id"]
        if only in (None, session_id):
            for row in activities_of(listed, recorded.frames(session_id)):
                if row["class_uid"] == 6005 and fits(row):
                    yield row


def documents(rows: Iterable[Activity], proved: str | None) -> Iterator[Document]:
    """A document an object, and one with nulls where an operation names none."""
    for row in rows:
        for touched in row["objects"] or [{"name": None, "access": None}]:
            yield {
                "at": written(row["time"]),
                **{name: row[name] for name in ("session", "origin", "chain", "target")},
                **{name: row[name] for name in ("operation", "kind")},
                "object": touched["name"],
                "access": touched["access"],
                **{name: row[name] for name in ("verdict", "rule", "rows")},
                "proved_to": proved,
            }


def written(time: datetime) -> str:
    """RFC 3339 in UTC, as the record writes times."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise Failed(f"{visible(text or '')!r} is no day", "write 2026-11-24") from None


def _touches(document: Document, relation: str | None) -> bool:
    name = document["object"]
    if relation is None or name is None or document["access"] == "call":
        return relation is None
    # A name that stands without its schema may be of any: better one too many than one missed.
    schema, _, table = name.rpartition(".")
    asked_schema, _, asked_table = relation.rpartition(".")
    return table == asked_table and (schema == asked_schema or "" in (schema, asked_schema))


def _print(recorded: Recorded, found: Iterator[Document], output: str) -> None:
    if output == "table":
        columns = ("at", "session", "chain", "target", "access", "object", "verdict", "rule")
        rows, proved = [], None
        for one in found:
            proved = one["proved_to"]
            cells = {**one, "chain": " > ".join(one["chain"])}
            rows.append([str(cells[name] or "") for name in columns])
        click.echo(table(rows, columns))
        if rows:
            click.echo(f"proved to {proved}" if proved else "not proved: trailgate verify says why")
    else:
        print_documents(found, output)
    warn_of(recorded)
