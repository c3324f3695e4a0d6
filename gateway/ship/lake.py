# SPDX-License-Identifier: GPL-3.0-or-later
"""The lake: activities as Parquet in Hive paths, for DuckDB, Athena, Trino or Spark.

It is derived from the evidence and proves nothing; it can be built anew at any time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

REGION = "local"
ACCOUNT = "000000000000"
ROWS_PER_GROUP = 20_000
_MOST_BUFFERED = 50_000
_MARK = "trailgate-lake"
CLASSES = {6005: "datastore_activity", 3002: "authentication"}


class LakeFailed(Exception):
    """The lake cannot be written or read; `cure` says what to do."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


def lake_module(name: str) -> Any:
    """`pyarrow`, `pyarrow.parquet` or `duckdb`. Raises LakeFailed where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        cure = "pip install 'trailgate[lake]'"
        raise LakeFailed(f"{name.partition('.')[0]} is not installed", cure) from error


def lake_schema() -> Any:
    """The columns of both classes: OCSF 1.8's names first, then our own."""
    pa = lake_module("pyarrow")
    text, number = pa.string(), pa.int64()
    objects = pa.list_(pa.struct([("name", text), ("access", text)]))
    return pa.schema(
        [
            *(("class_uid", pa.int32()), ("category_uid", pa.int32()), ("type_uid", number)),
            *(("activity_id", pa.int32()), ("severity_id", pa.int32()), ("status_id", pa.int32())),
            ("action_id", pa.int32()),
            ("time", pa.timestamp("us", tz="UTC")),
            *(("session", text), ("operation", number), ("frame", number), ("leaf", number)),
            *(("node", text), ("target", text), ("protocol", text), ("user", text)),
            *(("client", text), ("origin", text), ("chain", pa.list_(text))),
            *(("grant", text), ("ancestors", pa.list_(text)), ("root_grant", text)),
            *(("kind", text), ("objects", objects), ("statement", text), ("shape", text)),
            *(("verdict", text), ("policy", text), ("policy_version", text), ("rule", text)),
            *(("reason", text), ("status", text), ("tag", text), ("rows", number)),
            *(("bytes", number), ("sqlstate", text)),
        ]
    )


def write_lake(
    rows: Iterable[Mapping[str, Any]], to: Path, metadata: Mapping[str, str]
) -> tuple[int, int]:
    """Write the lake beside `to`, then put it there; (rows, files). Raises LakeFailed.

    What stood at `to` is replaced only where it is a lake or an empty folder.
    """
    if to.exists() and not (to / _MARK).is_file() and (not to.is_dir() or any(to.iterdir())):
        raise LakeFailed(f"{to} is there and is no lake", "name a new folder with --to")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    except OSError as error:
        raise LakeFailed(f"{to}: {error.strerror}", "name a folder that you may write") from error
    try:
        writer = _Writer(beside, metadata)
        count = writer.write(rows)
        (beside / _MARK).write_text("derived from the evidence: trailgate audit rebuild-lake\n")
        _put_in_place(beside, to)
    except OSError as error:
        raise LakeFailed(f"{to}: {error.strerror}", "make room, and build it again") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return count, writer.files


def _put_in_place(beside: Path, to: Path) -> None:
    if to.exists():
        old = beside / ".old"
        os.rename(to, old)
        try:
            os.rename(beside, to)
        except OSError:
            os.rename(old, to)
            raise
        shutil.rmtree(to / ".old")
    else:
        os.rename(beside, to)


class _Writer:
    """A Parquet file a class and day; row groups are cut when many rows wait."""

    def __init__(self, root: Path, metadata: Mapping[str, str]) -> None:
        self._arrow, self._parquet = lake_module("pyarrow"), lake_module("pyarrow.parquet")
        self._schema = lake_schema().with_metadata(dict(metadata))
        self._root = root
        self._open: dict[str, Any] = {}
        self._waiting: dict[str, list[Mapping[str, Any]]] = {}
        self.files = 0

    def write(self, rows: Iterable[Mapping[str, Any]]) -> int:
        count = buffered = 0
        try:
            for row in rows:
                place = _partition(row)
                waiting = self._waiting.setdefault(place, [])
                waiting.append(row)
                count, buffered = count + 1, buffered + 1
                if len(waiting) >= ROWS_PER_GROUP:
                    buffered -= self._flush(place)
                elif buffered >= _MOST_BUFFERED:
                    largest = max(self._waiting, key=lambda one: len(self._waiting[one]))
                    buffered -= self._flush(largest)
            for place in list(self._waiting):
                self._flush(place)
        finally:
            for writer in self._open.values():
                writer.close()
        return count

    def _flush(self, place: str) -> int:
        rows = self._waiting.pop(place)
        if place not in self._open:
            folder = self._root / place
            folder.mkdir(parents=True)
            path = folder / "part-0.parquet"
            self._open[place] = self._parquet.ParquetWriter(path, self._schema, compression="zstd")
            self.files += 1
        self._open[place].write_table(self._arrow.Table.from_pylist(rows, self._schema))
        return len(rows)


def _partition(row: Mapping[str, Any]) -> str:
    day = row["time"].strftime("%Y%m%d")
    return f"{CLASSES[row['class_uid']]}/region={REGION}/accountId={ACCOUNT}/eventDay={day}"


def query_lake(lake: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]], str | None]:
    """Columns, rows and `proved_to` of a query on the table `activity`. Raises LakeFailed.

    The query reaches this one table: neither files nor the network.
    """
    duckdb, dataset = lake_module("duckdb"), lake_module("pyarrow.dataset")
    paths = sorted(str(path) for path in lake.rglob("*.parquet"))
    if not (lake / _MARK).is_file():
        raise LakeFailed(f"{lake} is no lake", "trailgate audit rebuild-lake makes one")
    source = dataset.dataset(paths, schema=lake_schema(), format="parquet")
    link = duckdb.connect(":memory:")
    try:
        link.register("activity", source)
        # Else a name that is no table could mean a variable of this process.
        link.execute("SET python_enable_replacements = false")
        link.execute("SET enable_external_access = false")
        link.execute("SET lock_configuration = true")
        found = link.execute(sql)
        columns = [one[0] for one in found.description or ()]
        rows = found.fetchall()
    except duckdb.Error as error:
        cure = "the table is `activity`; DESCRIBE activity shows its columns"
        raise LakeFailed(f"the query failed: {error}", cure) from error
    finally:
        link.close()
    return columns, rows, _proved_to(paths)


def _proved_to(paths: list[str]) -> str | None:
    parquet = lake_module("pyarrow.parquet")
    for path in paths[:1]:
        metadata = parquet.read_schema(path).metadata or {}
        return metadata.get(b"proved_to", b"").decode() or None
    return None
