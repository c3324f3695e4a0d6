# SPDX-License-Identifier: GPL-3.0-or-later
"""Who touched what, by the lake's index: a day's file, and of it the row groups that matter."""

from __future__ import annotations

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
    parquet, compute = lake_module("pyarrow.parquet"), lake_module("pyarrow.compute")
    for path in lake.files(TOUCHED, day):
        try:
            with parquet.ParquetFile(path, filesystem=lake.filesystem) as file:
                for group in _groups(file.metadata, relation):
                    found = file.read_row_group(group)
                    if relation is not None:
                        found = found.filter(_fits(compute, found, relation))
                    yield from found.to_pylist()
        except (OSError, lake_module("pyarrow").ArrowException) as error:
            raise LakeFailed(f"{path}: {error}", "trailgate audit rebuild-lake") from error


def _groups(metadata: Any, relation: str | None) -> Iterator[int]:
    """Row groups whose statistics do not exclude the name."""
    name = relation.rpartition(".")[2] if relation is not None else None
    for number in range(metadata.num_row_groups):
        told = metadata.row_group(number).column(_RELATION).statistics
        if name is None or told is None or not told.has_min_max or told.min <= name <= told.max:
            yield number


def _fits(compute: Any, table: Any, relation: str) -> Any:
    """A mask, not an expression: those bring in an engine that starts slowly."""
    named = compute.equal(table["object" if "." in relation else "relation"], relation)
    # A relation whose name has a dot in it, as the statement wrote it.
    exact = compute.equal(table["object"], relation)
    return compute.and_(compute.or_(named, exact), compute.not_equal(table["access"], "call"))
