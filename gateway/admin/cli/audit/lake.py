# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit rebuild-lake` and `query`: the record as Parquet, and SQL over it."""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from gateway.admin.cli._activities import Activity, activities_of, proved_to
from gateway.admin.cli._reading import Recorded
from gateway.admin.cli._record_options import RecordOptions, record_options, warn_of
from gateway.admin.cli.audit.who import written
from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import Failed, print_documents, print_json, table, visible
from gateway.ship.lake import LakeFailed, lake_module, query_lake, write_lake


@click.command(
    "rebuild-lake",
    epilog="Example: trailgate audit rebuild-lake --data ./data --to ./lake",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the lake; a lake that is there is replaced.",
)
@record_options
def rebuild_lake(to: Path, **place: str | None) -> None:
    """Write the record's clear part as Parquet with OCSF's class numbers, from the evidence alone.

    Exit codes: 0 written, 2 the record could not be read or the lake not written.
    """
    options = RecordOptions(**place)
    recorded = options.opened()
    rows, files = _build(options, recorded, to)
    click.echo(f"{to}: {rows} rows in {files} files")
    warn_of(recorded)


@click.command(
    epilog="""\b
Examples:
  trailgate audit query "select origin, count(*) from activity group by 1" --data ./data
  trailgate audit query "describe activity" --lake ./lake -o csv"""
)
@click.argument("sql")
@click.option(
    "--lake",
    type=click.Path(path_type=Path, file_okay=False),
    help="A lake of rebuild-lake. Default: one is built from --data for this query.",
)
@record_options
@output_option("table", "json", "jsonl", "csv")
def query(sql: str, lake: Path | None, output: str, **place: str | None) -> None:
    """SQL (DuckDB's) over the table `activity`. The query reaches no file and no network.

    Exit codes: 0 answered, 2 the query is wrong, or the record could not be read.
    """
    if lake is not None:
        _answer(lake, sql, output)
        return
    options = RecordOptions(**place)
    recorded = options.opened()
    with tempfile.TemporaryDirectory(prefix="trailgate-lake-") as folder:
        _build(options, recorded, Path(folder) / "lake")
        _answer(Path(folder) / "lake", sql, output)
    warn_of(recorded)


def _build(options: RecordOptions, recorded: Recorded, to: Path) -> tuple[int, int]:
    try:
        lake_module("pyarrow")
        metadata = {"proved_to": proved_to(options) or "", "evidence": "clear part"}
        return write_lake(_rows(recorded), to, metadata)
    except LakeFailed as error:
        raise Failed(visible(str(error)), error.cure) from error


def _rows(recorded: Recorded) -> Iterator[Activity]:
    listed = recorded.listed()
    for number, one in enumerate(listed, 1):
        if sys.stderr.isatty() and number % 100 == 0:
            click.echo(f"\rsession {number} of {len(listed)}", err=True, nl=False)
        yield from activities_of(one, recorded.frames(one.document["id"]))


def _answer(lake: Path, sql: str, output: str) -> None:
    try:
        columns, rows, proved = query_lake(lake, sql)
    except LakeFailed as error:
        raise Failed(visible(str(error), lines=True), error.cure) from error
    plain = [[_plain(value) for value in row] for row in rows]
    if output == "json":
        print_json({"columns": columns, "rows": plain, "proved_to": proved})
    elif output == "jsonl":
        print_documents([dict(zip(columns, row, strict=True)) for row in plain], output)
    elif output == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([columns, *plain])
    else:
        shown = [["" if value is None else str(value) for value in row] for row in plain]
        click.echo(table(shown, columns))
        click.echo(f"proved to {proved}" if proved else "not proved: trailgate verify says why")


def _plain(value: Any) -> Any:
    """A value of DuckDB as JSON has it."""
    if isinstance(value, datetime):
        return written(value) if value.tzinfo else value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, date | Decimal):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
