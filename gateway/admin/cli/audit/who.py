# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit who` and `violations`: who touched what, and what policy refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from gateway.admin.cli._record_options import (
    RecordOptions,
    judged_options,
    record_options,
    warn_of,
)
from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import Failed, print_documents, table, visible
from gateway.ship.exports.ocsf import DATASTORE

if TYPE_CHECKING:
    from gateway.admin.cli._activities import Activity
    from gateway.admin.cli._reading import Recorded
    from gateway.ship.lake.stored import StoredLake

# What reads the evidence is imported where it is read: an answer from a lake shall not wait for it.

_VIOLATIONS = frozenset({"deny", "hold", "would_deny"})
Document = dict[str, Any]

_proved_option = click.option(
    "--proved", "demanded", is_flag=True, help="Fail where what it tells is not proved."
)


@click.command(
    epilog="""\b
Examples:
  trailgate audit who --table customers --data ./data
  trailgate audit who --table customers --day 2026-11-24 --lake ./lake
  trailgate audit who --day 2026-11-24 --session kq3v --data ./data -o json"""
)
@click.option("--table", "relation", help="Only what touched this table, by NAME or SCHEMA.NAME.")
@click.option("--day", help="Only this day in UTC, as 2026-11-24.")
@click.option("--session", help="Only this session; the start of its id is enough.")
@click.option("--lake", help="Ask a lake of rebuild-lake, a folder or s3://, not the evidence.")
@_proved_option
@judged_options
@record_options
@output_option("table", "json", "jsonl")
def who(
    relation: str | None,
    day: str | None,
    session: str | None,
    lake: str | None,
    demanded: bool,
    output: str,
    **place: str | None,
) -> None:
    """Who touched which objects: a line an operation and object, from the clear part.

    It is what statements name: what views, functions and triggers touch below them is not seen.

    Exit codes: 0 done, 1 --proved and it is not, 2 no such session, or the record could not be
    read.
    """
    options, wanted = RecordOptions(**place), _day(day)
    if lake is not None:
        options.refuse_with_lake()
        _print_lake(lake, options, relation, (wanted, session), demanded, output)
        return
    recorded = options.opened()
    only = recorded.find(session) if session is not None else None

    def fits(row: Activity) -> bool:
        return wanted is None or row["time"].astimezone(UTC).date() == wanted

    to, rows = _told(options, _activities(recorded, only, fits), demanded)
    _print((one for one in rows if _touches(one, relation)), output, to)
    warn_of(recorded)


@click.command(
    epilog="""\b
Examples:
  trailgate audit violations --data ./data
  trailgate audit violations --since 2026-11-01 --until 2026-12-01 --data ./data -o jsonl"""
)
@click.option("--since", help="Only at or after this time.")
@click.option("--until", help="Only at or before this time.")
@_proved_option
@judged_options
@record_options
@output_option("table", "json", "jsonl")
def violations(
    since: str | None, until: str | None, demanded: bool, output: str, **place: str | None
) -> None:
    """What policy denied or held, or would have denied had it been enforced.

    Exit codes: 0 done, 1 --proved and it is not, 2 the record could not be read.
    """
    from gateway.admin.cli._reading import instant

    options = RecordOptions(**place)
    recorded = options.opened()
    first, last = instant(since), instant(until)

    def fits(row: Activity) -> bool:
        at = written(row["time"])
        inside = (first is None or at >= first) and (last is None or at <= last)
        return inside and row["verdict"] in _VIOLATIONS

    to, told = _told(options, _activities(recorded, None, fits), demanded)
    _print(told, output, to)
    warn_of(recorded)


def _told(
    options: RecordOptions, rows: Iterator[Activity], demanded: bool
) -> tuple[str | None, Iterator[Document]]:
    """What is proved, and the documents; where that is demanded, nothing else. Raises Failed."""
    from gateway.admin.cli._proved import proved

    found = proved(options)
    if demanded:
        found.demand(None)

    def told() -> Iterator[Document]:
        for document in documents(rows, found.to):
            if demanded:
                found.demand(document["at"])
            yield document

    return found.to, told()


def _activities(
    recorded: Recorded, only: str | None, fits: Callable[[Activity], bool]
) -> Iterator[Activity]:
    """Operations that fit, a session after the other."""
    from gateway.admin.cli._activities import activities_of

    for listed in recorded.listed():
        session_id = listed.document["id"]
        if only in (None, session_id):
            for row in activities_of(listed, recorded.frames(session_id)):
                if row["class_uid"] == DATASTORE and fits(row):
                    yield row


def _print_lake(
    place: str,
    options: RecordOptions,
    relation: str | None,
    wanted: tuple[date | None, str | None],
    demanded: bool,
    output: str,
) -> None:
    """By the index of objects; `wanted`: the day, and how a session begins. Raises Failed."""
    from gateway.ship.lake.schema import LakeFailed
    from gateway.ship.lake.stored import open_lake

    try:
        lake = open_lake(place, options.endpoint_url, options.region)
        if demanded and (lake.proved_to is None or lake.mark.get("holes")):
            cure = "trailgate verify says what is wrong"
            raise Failed(f"{visible(place)}: its evidence had a defect or a hole", cure, 1)
        _print(_in_lake(lake, relation, *wanted), output, lake.proved_to)
    except LakeFailed as error:
        raise Failed(visible(str(error)), error.cure) from error


def _in_lake(
    lake: StoredLake, relation: str | None, day: date | None, session: str | None
) -> Iterator[Document]:
    """Raises LakeFailed."""
    from gateway.ship.lake.touching import touched_rows

    for row in touched_rows(lake, relation, day.strftime("%Y%m%d") if day else None):
        if session is None or row["session"].startswith(session):
            at = written(row.pop("time"))
            del row["relation"]
            document = {"at": at, **row, "proved_to": lake.proved_to}
            yield {name: document[name] for name in COLUMNS}


COLUMNS = ("at", "session", "origin", "chain", "target", "operation", "kind", "object", "access",
           "verdict", "rule", "rows", "proved_to")  # fmt: skip


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


def _print(found: Iterator[Document], output: str, proved: str | None) -> None:
    if output != "table":
        print_documents(found, output)
        return
    columns = ("at", "session", "chain", "target", "access", "object", "verdict", "rule")
    rows = []
    for one in found:
        cells = {**one, "chain": " > ".join(one["chain"])}
        rows.append([str(cells[name] or "") for name in columns])
    click.echo(table(rows, columns) if rows else "nothing")
    # That nothing is there is an answer too, and it is worth what is proved.
    click.echo(f"proved to {proved}" if proved else "not proved: trailgate verify says why")
