# SPDX-License-Identifier: GPL-3.0-or-later
"""Who touched table X on day D, in a lake of many events: `python -m tests.bench.lake`.

The events are written in the lake's own files and sorted as it sorts them; each answer is a
command of its own, so that its start counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.ship.exports.ocsf import DATASTORE, attributes
from gateway.ship.lake.schema import TOUCHED, class_schema, touched_schema
from gateway.ship.lake.writing import MARK, Partition, index_lines, sorted_index
from tests.ship.activities import operation

BLOCK = 20_000
TABLES = 2000
DAYS = 10
RUNS = 9
START = datetime(2026, 11, 1, tzinfo=UTC)


def block(day: int) -> list[dict[str, Any]]:
    """Operations of a day, each on one of many tables; the tables are not touched alike."""
    return [
        operation(
            operation=number,
            time=START + timedelta(days=day, seconds=number),
            session=f"{number % 500:026}".replace("0", "a").replace("1", "b").replace("8", "c")
            .replace("9", "d"),
            objects=[{"name": f"table_{(number * number) % TABLES}", "access": "read"}],
        )
        for number in range(BLOCK)
    ]  # fmt: skip


def build(root: Path, events: int) -> None:
    """A lake of so many events over DAYS days."""
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        unsorted, partition = Path(folder), Partition()
        for day in range(DAYS):
            text = (START + timedelta(days=day)).strftime("%Y%m%d")
            rows = block(day)
            stored = pa.Table.from_pylist(
                [attributes(row) for row in rows], class_schema(DATASTORE)
            )
            lines = [line for row in rows for line in index_lines(row)]
            index = pa.Table.from_pylist(lines, touched_schema())
            for name, table, to in (
                ("datastore_activity", stored, root),
                (TOUCHED, index, unsorted),
            ):
                path = to / partition.folder(name, text) / "part-gw1-0.parquet"
                path.parent.mkdir(parents=True)
                with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
                    for _ in range(events // DAYS // BLOCK):
                        writer.write_table(table)
        sorted_index(unsorted, root)
    (root / MARK).write_text(json.dumps({"format": 1, "proved_to": "2026-11-30T00:00:00Z"}))


def answered(*arguments: str) -> tuple[float, float, int]:
    """Seconds of RUNS commands (median, longest), and the lines of the answer."""
    command = [sys.executable, "-m", "gateway", "audit", *arguments, "-o", "jsonl"]
    spent, lines = [], 0
    for _ in range(RUNS):
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, check=True)
        spent.append(time.perf_counter() - started)
        lines = done.stdout.count(b"\n")
    return median(spent), max(spent), lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory(prefix="trailgate-lake-") as folder:
        root = Path(folder) / "lake"
        build(root, events)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(f"{events} events, {size / events:.1f} bytes an event")
        day, where = "2026-11-05", ("--lake", str(root))
        sql = (
            "select origin, count(*) from touched where relation = 'table_7'"
            " and eventDay = '20261105' group by 1"
        )
        for name, arguments in {
            "audit who --table --day": ("who", "--table", "table_1681", "--day", day, *where),
            "the same, a table that nobody touched": ("who", "--table", "x", "--day", day, *where),
            "audit query over the index": ("query", sql, *where),
            "a command that does nothing": ("who", "--help"),
        }.items():
            if name.startswith("a command"):
                started = time.perf_counter()
                subprocess.run([sys.executable, "-m", "gateway", "audit", "who", "--help"],
                               capture_output=True, check=True)  # fmt: skip
                print(f"{name}: {time.perf_counter() - started:.3f} s")
                continue
            middle, longest, lines = answered(*arguments)
            print(f"{name}: {middle:.3f} s (longest {longest:.3f}), {lines} lines")


if __name__ == "__main__":
    main()
