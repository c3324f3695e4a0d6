# SPDX-License-Identifier: GPL-3.0-or-later
"""Activities become files: one a class, day and log; then the index by object, sorted."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.ship.exports.ocsf import CLASSES, DATASTORE, attributes
from gateway.ship.lake.schema import (
    TOUCHED,
    LakeFailed,
    class_schema,
    lake_module,
    touched_schema,
)

MARK = "trailgate-lake"
ROWS_PER_GROUP = 20_000
INDEX_ROWS_PER_GROUP = 65_536
_MOST_BUFFERED = 50_000
_SORT_MEMORY = "512MB"
Activity = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Partition:
    """What the paths say of where the lake belongs, as Amazon Security Lake has them."""

    region: str = "local"
    account: str = "000000000000"

    def folder(self, name: str, day: str) -> str:
        return f"{name}/region={self.region}/accountId={self.account}/eventDay={day}"


@dataclass(frozen=True, slots=True)
class Origin:
    """What the node's log says of a session. `log`: NODE/N; leaves by index; None: not closed."""

    log: str
    opened: int
    closed: int | None = None
    frames: int = 0
    root: str = ""


@dataclass(slots=True)
class _File:
    writer: Any
    log: str
    sessions: dict[str, Origin] = field(default_factory=dict)


def write_lake(
    rows: Iterable[Activity],
    to: Path,
    mark: Mapping[str, Any],
    origin_of: Callable[[str], Origin],
    partition: Partition = Partition(),
) -> tuple[int, int]:
    """Write the lake beside `to`, then put it there; (rows, files). Raises LakeFailed.

    What stood at `to` is replaced only where it is a lake or an empty folder.
    """
    if to.exists() and not (to / MARK).is_file() and (not to.is_dir() or any(to.iterdir())):
        raise LakeFailed(f"{to} is there and is no lake", "name a new folder with --to")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    except OSError as error:
        raise LakeFailed(f"{to}: {error.strerror}", "name a folder that you may write") from error
    try:
        with tempfile.TemporaryDirectory(prefix=f".{to.name}-index-", dir=to.parent) as unsorted:
            writer = _Writer(beside, Path(unsorted), mark, origin_of, partition)
            count = writer.write(rows)
            files = writer.files + sorted_index(Path(unsorted), beside)
        (beside / MARK).write_text(json.dumps(dict(mark), sort_keys=True) + "\n")
        beside.chmod(0o755)
        _put_in_place(beside, to)
    except OSError as error:
        raise LakeFailed(f"{to}: {error.strerror}", "make room, and build it again") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return count, files


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
    """Files that are open at the same time; row groups are cut when many rows wait."""

    def __init__(
        self,
        root: Path,
        unsorted: Path,
        mark: Mapping[str, Any],
        origin_of: Callable[[str], Origin],
        partition: Partition,
    ) -> None:
        self._arrow, self._parquet = lake_module("pyarrow"), lake_module("pyarrow.parquet")
        self._schemas = {uid: class_schema(uid) for uid in CLASSES}
        self._touched = touched_schema()
        self._mark = mark
        self._root, self._unsorted = root, unsorted
        self._origin_of = origin_of
        self._partition = partition
        self._open: dict[str, _File] = {}
        self._waiting: dict[str, list[Mapping[str, Any]]] = {}
        self.files = 0

    def write(self, rows: Iterable[Activity]) -> int:
        count = buffered = 0
        try:
            for row in rows:
                count += 1
                for place, one in self._placed(row):
                    waiting = self._waiting.setdefault(place, [])
                    waiting.append(one)
                    buffered += 1
                    if len(waiting) >= ROWS_PER_GROUP:
                        buffered -= self._flush(place)
                    elif buffered >= _MOST_BUFFERED:
                        largest = max(self._waiting, key=lambda each: len(self._waiting[each]))
                        buffered -= self._flush(largest)
            for place in list(self._waiting):
                self._flush(place)
        finally:
            for file in self._open.values():
                self._close(file)
        return count

    def _placed(self, row: Activity) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The event and its lines of the index, each with the file it belongs to."""
        day, uid = row["time"].strftime("%Y%m%d"), row["class_uid"]
        origin = self._origin_of(row["session"])
        name = f"part-{origin.log.replace('/', '-')}.parquet"
        place = f"{self._partition.folder(CLASSES[uid], day)}/{name}"
        file = self._open.get(place) or self._begin(place, self._schemas[uid], origin.log)
        file.sessions.setdefault(row["session"], origin)
        yield place, attributes(row)
        if uid == DATASTORE:
            index = f"{self._partition.folder(TOUCHED, day)}/part.parquet"
            if index not in self._open:
                self._begin(index, self._touched, "")
            for line in index_lines(row):
                yield index, line

    def _begin(self, place: str, schema: Any, log: str) -> _File:
        path = (self._root if log else self._unsorted) / place
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = self._parquet.ParquetWriter(path, schema, compression="zstd")
        self.files += bool(log)
        self._open[place] = file = _File(writer, log)
        return file

    def _flush(self, place: str) -> int:
        rows, file = self._waiting.pop(place), self._open[place]
        schema = file.writer.schema
        file.writer.write_table(self._arrow.Table.from_pylist(rows, schema))
        return len(rows)

    def _close(self, file: _File) -> None:
        if file.log:
            file.writer.add_key_value_metadata(file_metadata(file.log, file.sessions, self._mark))
        file.writer.close()


def index_lines(row: Activity) -> Iterator[dict[str, Any]]:
    """A line an object of an operation; one with nulls where it names none."""
    for touched in row["objects"] or [{"name": None, "access": None}]:
        name = touched["name"]
        yield {
            "object": name,
            "relation": name.rpartition(".")[2] if name is not None else None,
            "access": touched["access"],
            **{key: row[key] for key in _INDEXED},
        }


_INDEXED = ("time", "session", "origin", "chain", "target", "operation", "kind", "verdict", "rule",
            "rows")  # fmt: skip


def file_metadata(
    log: str, sessions: Mapping[str, Origin], mark: Mapping[str, Any]
) -> dict[str, str]:
    """What a file says of where its rows come from; docs/lake.md tells the meaning.

    `frame_root`: the RFC 6962 root over its closed sessions by id, each as progress leaves have it.
    """
    node, _, number = log.partition("/")
    closed = sorted((one, at) for one, at in sessions.items() if at.closed is not None)
    leaves = [at.opened for at in sessions.values()]
    leaves += [at.closed for _, at in closed if at.closed is not None]
    rows = [
        session_bytes(one) + at.frames.to_bytes(8, "little") + bytes.fromhex(at.root)
        for one, at in closed
    ]
    told = {
        "node": node,
        "log": number,
        "first_leaf": str(min(leaves)),
        "last_leaf": str(max(leaves)),
        "sessions": str(len(sessions)),
        "frame_root": merkle_root(rows).hex(),
        "proved_to": str(mark.get("proved_to") or ""),
    }
    return {f"trailgate.{name}": value for name, value in told.items()}


def session_bytes(text: str) -> bytes:
    return base64.b32decode(text.upper() + "======")


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    peaks: list[bytes] = []
    for count, leaf in enumerate(leaves):
        peaks.append(sha256(b"\0" + leaf).digest())
        while count & 1:
            right, left = peaks.pop(), peaks.pop()
            peaks.append(sha256(b"\1" + left + right).digest())
            count >>= 1
    if not peaks:
        return sha256(b"").digest()
    while len(peaks) > 1:
        right, left = peaks.pop(), peaks.pop()
        peaks.append(sha256(b"\1" + left + right).digest())
    return peaks[0]


def sorted_index(unsorted: Path, root: Path) -> int:
    """Each day's lines in the order of the objects, so that a table's stand together; the files.

    DuckDB sorts with bounded memory, beside the lake. Raises LakeFailed.
    """
    duckdb = lake_module("duckdb")
    paths = sorted(unsorted.rglob("*.parquet"))
    link = duckdb.connect(":memory:")
    try:
        link.execute("SET enable_progress_bar = false")
        link.execute(f"SET memory_limit = '{_SORT_MEMORY}'")
        link.execute("SET temp_directory = ?", [str(unsorted / "spilled")])
        for path in paths:
            to = root / path.relative_to(unsorted)
            to.parent.mkdir(parents=True)
            link.execute(
                "COPY (SELECT * FROM read_parquet(?) ORDER BY relation, object, time, session,"
                " operation) TO '" + str(to).replace("'", "''") + "' (FORMAT parquet,"
                f" COMPRESSION zstd, ROW_GROUP_SIZE {INDEX_ROWS_PER_GROUP})",
                [str(path)],
            )
    except duckdb.Error as error:
        raise LakeFailed(f"the index was not written: {error}", "make room") from error
    finally:
        link.close()
    return len(paths)
