# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit rebuild-lake` and `query`: the record as OCSF Parquet, and SQL over it."""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.admin.cli._record_options import (
    RecordOptions,
    judged_options,
    record_options,
    warn_of,
)
from gateway.admin.cli.audit.who import written
from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import Failed, json_text, print_json, table, visible
from gateway.ship.lake import (
    LakeFailed,
    Limits,
    Partition,
    lake_module,
    open_lake,
    query_lake,
    write_lake,
)
from gateway.verify.report import counted

if TYPE_CHECKING:
    from gateway.admin.cli._activities import Activity
    from gateway.admin.cli._reading import Recorded

# What reads the evidence is imported where it is read: an answer from a lake shall not wait for it.

_LOCAL = Partition()
_MOST_SHOWN = 100_000
"""Rows of a table, which needs all of them for its widths."""


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
@click.option("--lake-region", default=_LOCAL.region, help="What region= says in the paths.")
@click.option("--account", default=_LOCAL.account, help="What accountId= says in the paths.")
@click.option(
    "--identity",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With it, statements are written in full: whoever reads the lake reads them.",
)
@judged_options
@record_options
def rebuild_lake(
    to: Path, lake_region: str, account: str, identity: Path | None, **place: str | None
) -> None:
    """Write the record as Parquet of OCSF 1.8, from the evidence alone.

    Exit codes: 0 written, 2 the record could not be read or the lake not written.
    """
    for name, value in (("--lake-region", lake_region), ("--account", account)):
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
            raise Failed(f"{name} {visible(value)!r} is no part of a path", "as eu-central-1")
    options = RecordOptions(**place)
    recorded = options.opened(identity)
    rows, files = _build(
        options, recorded, to, texts=identity is not None, partition=Partition(lake_region, account)
    )
    click.echo(f"{to}: {counted(rows, 'row')} in {counted(files, 'file')}")
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
    help="A lake of rebuild-lake, a folder or s3://. Default: one is built from --data for this.",
)
@click.option("--timeout", type=click.FloatRange(min=0.01), default=300.0, help="Seconds.")
@click.option("--max-memory", type=click.IntRange(min=16), default=1024, help="MiB.")
@click.option("--proved", "demanded", is_flag=True, help="Fail where what it tells is not proved.")
@judged_options
@record_options
@output_option("table", "json", "jsonl", "csv")
def query(
    sql: str,
    lake: str | None,
    timeout: float,
    max_memory: int,
    demanded: bool,
    output: str,
    **place: str | None,
) -> None:
    """SQL (DuckDB's) over the tables `activity`, `touched`, `datastore_activity`, `authentication`.

    The query reaches no file and no network.

    Exit codes: 0 answered, 1 --proved and it is not, 2 the query is wrong, or the record could
    not be read.
    """
    options, limits = RecordOptions(**place), Limits(timeout, max_memory)
    if lake is not None:
        options.refuse_with_lake()
        _answer(lake, options, sql, limits, output, demanded)
        return
    recorded = options.opened()
    if demanded:
        from gateway.admin.cli._proved import proved

        proved(options).demand(None)
    with tempfile.TemporaryDirectory(prefix="trailgate-lake-") as folder:
        built = Path(folder) / "lake"
        _build(options, recorded, built)
        _answer(str(built), RecordOptions(None, None, None, None), sql, limits, output, demanded)
    warn_of(recorded)


def _build(
    options: RecordOptions,
    recorded: Recorded,
    to: Path,
    *,
    texts: bool = False,
    partition: Partition = _LOCAL,
) -> tuple[int, int]:
    from gateway.admin.cli._proved import proved
    from gateway.admin.cli.audit._origins import Origins

    try:
        lake_module("pyarrow")
        verdict, origins = proved(options), Origins(options)
        mark = {
            "format": 1,
            "proved_to": verdict.to,
            "holes": list(verdict.holes[:10]),
            "logs": origins.sizes,
            "texts": texts,
        }
        return write_lake(activities(recorded, texts=texts), to, mark, origins.of, partition)
    except LakeFailed as error:
        raise Failed(visible(str(error)), error.cure) from error


def activities(recorded: Recorded, *, texts: bool = False) -> Iterator[Activity]:
    """Every activity of the record, a session after the other; with `texts`, in full."""
    from gateway.admin.cli._activities import activities_of, texts_of

    listed = recorded.listed()
    for number, one in enumerate(listed, 1):
        if sys.stderr.isatty() and number % 100 == 0:
            click.echo(f"\rsession {number} of {len(listed)}", err=True, nl=False)
        session = one.document["id"]
        full = texts_of(one.document["protocol"]) if texts else None
        yield from activities_of(one, recorded.frames(session), full)


def _answer(
    lake: str, options: RecordOptions, sql: str, limits: Limits, output: str, demanded: bool
) -> None:
    try:
        opened = open_lake(lake, options.endpoint_url, options.region)
        if demanded and (opened.proved_to is None or opened.mark.get("holes")):
            what = "has a hole" if opened.proved_to else "had a defect"
            cure = "trailgate verify says what is wrong"
            raise Failed(f"{visible(lake)}: its evidence {what} when it was built", cure, 1)
        with query_lake(opened, sql, limits) as answer:
            rows = ([_plain(value) for value in row] for row in answer.rows)
            _print(answer.columns, rows, opened.proved_to, output)
    except LakeFailed as error:
        raise Failed(visible(str(error), lines=True), error.cure) from error


def _print(
    columns: list[str], rows: Iterable[list[Any]], proved_to: str | None, output: str
) -> None:
    if output == "json":
        click.echo(f'{{"columns": {json_text(columns)}, "rows": [', nl=False)
        for number, row in enumerate(rows):
            click.echo((", " if number else "") + json_text(row), nl=False)
        click.echo(f'], "proved_to": {json_text(proved_to)}}}')
    elif output == "jsonl":
        for row in rows:
            print_json(dict(zip(columns, row, strict=True)))
    elif output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    else:
        _print_table(columns, rows, proved_to)


def _print_table(columns: list[str], rows: Iterable[list[Any]], proved_to: str | None) -> None:
    shown: list[list[str]] = []
    more = 0
    for row in rows:
        if len(shown) < _MOST_SHOWN:
            shown.append(["" if value is None else str(value) for value in row])
        else:
            more += 1
    click.echo(table(shown, columns))
    if more:
        click.echo(f"... {counted(more, 'more row')}: -o jsonl has all")
    click.echo(f"proved to {proved_to}" if proved_to else "not proved: trailgate verify says why")


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
