# SPDX-License-Identifier: GPL-3.0-or-later
"""Who touched what, by the lake's index: a day's file, and of it the row groups that matter."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any

from gateway.ship.lake.schema import TOUCHED, LakeFailed, lake_module
from gateway.ship.lake.stored import StoredLake

_RELATION = 1
"""The column by which the index is sorted."""


def touched_rows(
    lake: StoredLake, relation: str | None = None, day: str | None = None
) -> Iterator[dict[str, Any]]:
    """Lines of the index: of a table by NAME or SCHEMA.NAME, of a day (YYYYMMDD); or all.

    Calls of functions are left out where a table is named. Raises LakeFailed.
    """
    parquet = lake_module("pyarrow.parquet")
    for path in lake.files(TOUCHED, day):
        try:
            with parquet.ParquetFile(path, filesystem=lake.filesystem) as file:
                for group in _groups(file.metadata, relation):
                    found = file.read_row_group(group)
                    yield from found.to_pylist() if relation is None else _of(found, relation)
        except (OSError, lake_module("pyarrow").ArrowException) as error:
            raise LakeFailed(f"{path}: {error}", "trailgate audit rebuild-lake") from error


def _groups(metadata: Any, relation: str | None) -> Iterator[int]:
    """Row groups whose statistics do not exclude the name."""
    name = relation.rpartition(".")[2] if relation is not None else None
    for number in range(metadata.num_row_groups):
        told = metadata.row_group(number).column(_RELATION).statistics
        if name is None or told is None or not told.has_min_max or told.min <= name <= told.max:
            yield number


def _of(table: Any, relation: str) -> Iterator[dict[str, Any]]:
    """The lines of a relation, by the order in which they stand; those without one come last.

    pyarrow's own filters would do, and bring in an engine that takes longer to start than this.
    """
    names = table.column(_RELATION)

    def place(number: int) -> tuple[bool, str]:
        name = names[number].as_py()
        return name is None, name or ""

    wanted = (False, relation.rpartition(".")[2])
    first = bisect_left(range(len(names)), wanted, key=place)
    last = bisect_right(range(len(names)), wanted, lo=first, key=place)
    for line in table.slice(first, last - first).to_pylist():
        # `relation` with a dot: SCHEMA.NAME.
        if line["access"] != "call" and ("." not in relation or line["object"] == relation):
            yield line
