# SPDX-License-Identifier: GPL-3.0-or-later
"""The lake: Hive paths, replaced as a whole, and queries that reach nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from gateway.ship.exports.ocsf import DATASTORE
from gateway.ship.lake import (
    LakeFailed,
    Limits,
    Origin,
    Partition,
    open_lake,
    query_lake,
    touched_rows,
    write_lake,
)
from gateway.ship.lake.schema import class_schema
from gateway.ship.lake.writing import file_metadata, merkle_root
from tests.ship.activities import operation

START = datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)
PROVED = {"proved_to": "2026-11-25T00:00:00.000000Z"}


def rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield operation(time=START + timedelta(seconds=number), operation=number)


def origin_of(session: str) -> Origin:
    return Origin("gw1/0", 4, 9, 3, "ab" * 32)


def write(found: Iterator[dict[str, Any]], to: Path) -> tuple[int, int]:
    return write_lake(found, to, PROVED, origin_of)


def asked(lake: Path, sql: str) -> list[tuple[Any, ...]]:
    with query_lake(open_lake(str(lake)), sql) as answer:
        return list(answer.rows)


def test_a_row_lies_in_the_path_of_its_class_and_day(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert write(rows(3), lake) == (3, 4)
    inside = "datastore_activity/region=local/accountId=000000000000"
    days = [
        lake / inside / f"eventDay={day}/part-gw1-0.parquet" for day in ("20261124", "20261125")
    ]
    assert sorted((lake / "datastore_activity").rglob("*.parquet")) == days
    assert [pyarrow.parquet.ParquetFile(one).metadata.num_rows for one in days] == [1, 2]
    assert pyarrow.parquet.read_schema(days[0]).names == class_schema(DATASTORE).names


def test_many_rows_are_all_there_once(tmp_path: Path) -> None:
    write(rows(60_001), tmp_path / "lake")
    sql = "select count(*), count(distinct operation), max(operation) from activity"
    assert asked(tmp_path / "lake", sql) == [(60_001, 60_001, 60_000)]
    assert open_lake(str(tmp_path / "lake")).proved_to == PROVED["proved_to"]


def test_a_lake_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    write(rows(3), lake)
    write(rows(1), lake)
    assert asked(lake, "select count(*) from activity") == [(1,)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(LakeFailed, match="is no lake"):
        write(rows(1), tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "x"


def test_what_fails_half_way_leaves_the_old_lake(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from rows(30_000)
        raise RuntimeError("the record ends here")

    lake = tmp_path / "lake"
    write(rows(3), lake)
    with pytest.raises(RuntimeError):
        write(broken(), lake)
    assert asked(lake, "select count(*) from activity") == [(3,)]
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
    write(rows(1), tmp_path / "lake")
    with pytest.raises(LakeFailed, match="the query failed"):
        asked(tmp_path / "lake", sql.format(file=file))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["lake", "secret.csv"]


def test_an_empty_record_makes_a_lake_that_answers(tmp_path: Path) -> None:
    write(rows(0), tmp_path / "lake")
    assert asked(tmp_path / "lake", "select count(*) from activity") == [(0,)]


def test_a_query_ends_at_its_limits(tmp_path: Path) -> None:
    write(rows(1000), tmp_path / "lake")
    lake = open_lake(str(tmp_path / "lake"))
    endless = "select count(*) from range(100000000000) a, range(1000) b where a.range % 7 = 3"
    with (
        pytest.raises(LakeFailed, match="no answer within"),
        query_lake(lake, endless, Limits(seconds=0.2)) as answer,
    ):
        list(answer.rows)
    greedy = "select list(range) from range(50000000)"
    with (
        pytest.raises(LakeFailed, match="more than 64 MiB"),
        query_lake(lake, greedy, Limits(memory_mib=64)) as answer,
    ):
        list(answer.rows)


def test_a_file_says_where_its_rows_come_from(tmp_path: Path) -> None:
    write_lake(rows(2), tmp_path / "lake", PROVED, origin_of, Partition("eu-central-1", "1234"))
    (path,) = (tmp_path / "lake").rglob("eventDay=20261124/part-gw1-0.parquet")
    assert "region=eu-central-1/accountId=1234/" in str(path)
    told = pyarrow.parquet.read_metadata(path).metadata
    found = {
        key.decode(): value.decode() for key, value in told.items() if key[:10] == b"trailgate."
    }
    row = bytes(16) + (3).to_bytes(8, "little") + bytes.fromhex("ab" * 32)
    assert found == {
        "trailgate.node": "gw1", "trailgate.log": "0", "trailgate.first_leaf": "4",
        "trailgate.last_leaf": "9", "trailgate.sessions": "1",
        "trailgate.frame_root": merkle_root([row]).hex(),
        "trailgate.proved_to": PROVED["proved_to"],
    }  # fmt: skip


def test_the_root_of_a_file_is_of_rfc_6962() -> None:
    from tests.verify.corpus import merkle

    for count in range(20):
        leaves = [bytes([number]) * 56 for number in range(count)]
        assert merkle_root(leaves) == merkle(leaves)
    assert file_metadata("gw1/0", {"a" * 26: Origin("gw1/0", 7)}, {})["trailgate.last_leaf"] == "7"


def test_who_touched_a_table_is_answered_from_its_row_groups(tmp_path: Path) -> None:
    def many() -> Iterator[dict[str, Any]]:
        for number in range(140_000):
            name = f"table_{number % 1000}" if number % 50_000 else "crm.customers"
            yield operation(operation=number, objects=[{"name": name, "access": "read"}])
        yield operation(operation=-1, objects=[{"name": "customers", "access": "call"}])
        yield operation(operation=-2, objects=[])

    write(many(), tmp_path / "lake")
    lake = open_lake(str(tmp_path / "lake"))
    for name in ("customers", "crm.customers"):
        found = [one["operation"] for one in touched_rows(lake, name, "20261124")]
        assert found == [0, 50_000, 100_000]
    assert len(list(touched_rows(lake, "table_7"))) == 140
    assert len(list(touched_rows(lake))) == 140_002
    assert list(touched_rows(lake, "customers", "20261125")) == []
