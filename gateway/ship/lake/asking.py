# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL over a lake by DuckDB, which reaches its tables and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gateway.ship.exports.ocsf import CLASSES
from gateway.ship.lake.schema import (
    TOUCHED,
    LakeFailed,
    class_schema,
    lake_module,
    touched_schema,
    unmapped_type,
)
from gateway.ship.lake.stored import StoredLake

_ROWS_AT_ONCE = 10_000
_SHARED = ("class_uid", "category_uid", "type_uid", "activity_id", "severity_id", "status_id",
           "action_id", "time")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What a query may take: seconds, and MiB of memory."""

    seconds: float = 300.0
    memory_mib: int = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    columns: list[str]
    rows: Iterator[tuple[Any, ...]]
    """Read as they are asked for. Raises LakeFailed."""


@contextmanager
def query_lake(lake: StoredLake, sql: str, limits: Limits = Limits()) -> Iterator[Answer]:
    """The answer to a query over `activity`, `touched` and a table a class. Raises LakeFailed."""
    duckdb = lake_module("duckdb")
    link = duckdb.connect(":memory:")
    timer = threading.Timer(limits.seconds, link.interrupt)
    timer.daemon = True
    try:
        with _explained(duckdb, limits):
            _prepare(link, lake, limits)
            timer.start()
            found = link.execute(sql)
            if found is None:
                raise duckdb.ParserException("there is no statement in it")
            columns = [one[0] for one in found.description or ()]
        yield Answer(columns, _rows(duckdb, found, limits))
    finally:
        timer.cancel()
        link.close()


def _rows(duckdb: Any, found: Any, limits: Limits) -> Iterator[tuple[Any, ...]]:
    while True:
        with _explained(duckdb, limits):
            rows = found.fetchmany(_ROWS_AT_ONCE)
        if not rows:
            return
        yield from rows


@contextmanager
def _explained(duckdb: Any, limits: Limits) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as error:
        cure = "ask for less, a day by eventDay for one; or --timeout"
        raise LakeFailed(f"no answer within {limits.seconds:g} seconds", cure) from error
    except duckdb.OutOfMemoryException as error:
        cure = "ask for less, a day by eventDay for one; or --max-memory"
        text = f"the query needs more than {limits.memory_mib} MiB of memory"
        raise LakeFailed(text, cure) from error
    except duckdb.Error as error:
        cure = "the tables are activity and touched; DESCRIBE activity shows the columns"
        raise LakeFailed(f"the query failed: {error}", cure) from error


def _prepare(link: Any, lake: StoredLake, limits: Limits) -> None:
    link.execute("SET enable_progress_bar = false")
    link.execute(f"SET memory_limit = '{limits.memory_mib}MiB'")
    link.execute("SET temp_directory = ''")
    for uid, name in CLASSES.items():
        link.register(name, _dataset(lake, name, class_schema(uid)))
    link.register("touched", _dataset(lake, TOUCHED, touched_schema()))
    link.execute(_activity_view())
    # Else a name that is no table could mean a variable of this process.
    link.execute("SET python_enable_replacements = false")
    link.execute("SET enable_external_access = false")
    link.execute("SET lock_configuration = true")


def _dataset(lake: StoredLake, name: str, schema: Any) -> Any:
    """All files of a class, with the columns that their paths tell."""
    pa, dataset = lake_module("pyarrow"), lake_module("pyarrow.dataset")
    told = pa.schema([(one, pa.string()) for one in ("region", "accountId", "eventDay")])
    return dataset.dataset(
        lake.files(name),
        schema=pa.unify_schemas([schema, told]),
        format="parquet",
        filesystem=lake.filesystem,
        partition_base_dir=f"{lake.root}/{name}",
        partitioning=dataset.partitioning(told, flavor="hive"),
    )


def _activity_view() -> str:
    """Both classes as one table with plain columns: OCSF's numbers, and what `unmapped` has."""
    ours = [unmapped_type().field(i).name for i in range(unmapped_type().num_fields)]
    columns = [*_SHARED, *(f'unmapped."{name}" AS "{name}"' for name in ours), "eventDay"]
    parts = [f"SELECT {', '.join(columns)} FROM {CLASSES[uid]}" for uid in sorted(CLASSES)]
    return "CREATE VIEW activity AS " + " UNION ALL ".join(parts)
