# SPDX-License-Identifier: GPL-3.0-or-later
"""The lake: activities as OCSF Parquet in Hive paths, for DuckDB, Athena, Trino or Spark.

It is derived from the evidence and proves nothing; it can be built anew at any time.
"""

from __future__ import annotations

from gateway.ship.lake.asking import Limits, query_lake
from gateway.ship.lake.schema import LakeFailed, lake_module
from gateway.ship.lake.stored import StoredLake, open_lake
from gateway.ship.lake.touching import touched_rows
from gateway.ship.lake.writing import Origin, Partition, write_lake

__all__ = [
    "LakeFailed",
    "Limits",
    "Origin",
    "Partition",
    "StoredLake",
    "lake_module",
    "open_lake",
    "query_lake",
    "touched_rows",
    "write_lake",
]
