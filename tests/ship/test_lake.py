# SPDX-License-Identifier: GPL-3.0-or-later
"""The lake: Hive paths, replaced as a whole, and queries that reach nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from gateway.ship.lake import LakeFailed, lake_schema, query_lake, write_lake

START = datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)
PROVED = {"proved_to": "2026-11-25T00:00:00.000000Z"}


def rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "class_uid": 6005,
            "time": START + timedelta(seconds=number),
            "operation": number,
            "objects": [{"name": "customers", "access": "read"}],
        }


def test_a_row_lies_in_the_path_of_its_class_and_day(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert write_lake(rows(3), lake, PROVED) == (3, 2)
    inside = "datastore_activity/region=local/accountId=000000000000"
    days = [lake / inside / f"eventDay={day}/part-0.parquet" for day in ("20261124", "20261125")]
    assert sorted(lake.rglob("*.parquet")) == days
    assert [pyarrow.parquet.ParquetFile(one).metadata.num_rows for one in days] == [1, 2]
    assert pyarrow.parquet.read_schema(days[0]).names == lake_schema().names


def test_many_rows_are_all_there_once(tmp_path: Path) -> None:
    write_lake(rows(120_001), tmp_path / "lake", PROVED)
    sql = "select count(*), count(distinct operation), max(operation) from activity"
    columns, found, proved = query_lake(tmp_path / "lake", sql)
    assert (len(columns), found) == (3, [(120_001, 120_001, 120_000)])
    assert proved == PROVED["proved_to"]


def test_a_lake_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    write_lake(rows(3), lake, PROVED)
    write_lake(rows(1), lake, PROVED)
    assert query_lake(lake, "select count(*) from activity")[1] == [(1,)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(LakeFailed, match="is no lake"):
        write_lake(rows(1), tmp_path / "mine", PROVED)
    assert (tmp_path / "mine" / "file").read_text() == "x"


def test_what_fails_half_way_leaves_the_old_lake(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from rows(30_000)
        raise RuntimeError("the record ends here")

    lake = tmp_path / "lake"
    write_lake(rows(3), lake, PROVED)
    with pytest.raises(RuntimeError):
        write_lake(broken(), lake, PROVED)
    assert query_lake(lake, "select count(*) from activity")[1] == [(3,)]
    assert [one.name for one in tmp_path.iterdir()] == ["lake"]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('{file}')",
        "select * from '{file}'",
        "copy activity to '{file}.out'",
        "attach '{file}.db'",
        "install httpfs",
        "set enable_external_access = true",
        "reset lock_configuration",
        "select * from source",
        "selekt",
    ],
)
def test_a_query_reaches_the_lake_only(tmp_path: Path, sql: str) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    write_lake(rows(1), tmp_path / "lake", PROVED)
    with pytest.raises(LakeFailed, match="the query failed"):
        query_lake(tmp_path / "lake", sql.format(file=file))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["lake", "secret.csv"]


def test_an_empty_record_makes_a_lake_that_answers(tmp_path: Path) -> None:
    write_lake(rows(0), tmp_path / "lake", PROVED)
    assert query_lake(tmp_path / "lake", "select count(*) from activity")[1] == [(0,)]
