# SPDX-License-Identifier: GPL-3.0-or-later
"""The lake against the evidence: rows that are missing, that nothing in the evidence says, or that
say something else. pyarrow is imported only here."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.verify import tree
from gateway.verify.findings import CannotCheck, Findings
from gateway.verify.history import History
from gateway.verify.lake_events import FOLDERS, INDEX, flat, index_lines, microseconds, normal, ocsf
from gateway.verify.lake_frames import evidence_rows
from gateway.verify.report import counted
from gateway.verify.source import Source

MARK = "trailgate-lake"
TOUCHED = "touched_object"
_MOST_MARK = 1 << 20
_ROWS = 5000
Row = dict[str, Any]


def check_lake(
    place: str,
    region: tuple[str | None, str | None],
    source: Source,
    histories: Mapping[str, History],
    findings: Findings,
    selected: Callable[[str], bool],
) -> None:
    """Compare; what differs are defects. `region`: S3's endpoint and region.

    Raises CannotCheck where no lake lies there, or pyarrow is not installed.
    """
    lake = _Lake(place, *region)
    differences = _Differences()
    try:
        sizes = lake.mark.get("logs")
        covered = sizes if isinstance(sizes, dict) else {}
        settled, later = set[str](), set[str]()
        for name, history in histories.items():
            told = covered.get(name)
            size = told if type(told) is int else 0
            later |= {one for one, leaf in history.closes.items() if leaf.index >= size}
            for row in evidence_rows(source, history, size, settled):
                if selected(row["session"]):
                    differences.expect(normal(row))
        _read_lake(lake, histories, findings, differences, settled, selected)
        differences.tell(lake, findings)
        if left := differences.passed_over & later:
            # The lake's own word for its age is no reason to believe the rest of it.
            sessions = counted(len(left), "session")
            text = f"the rows of {sessions} that ended after the lake was built (session"
            findings.unresolved.append(f"{text} {min(left)}): build it anew to compare them")
    finally:
        differences.close()


class _Lake:
    """Its files, through pyarrow."""

    def __init__(self, place: str, endpoint_url: str | None, region: str | None) -> None:
        try:
            import pyarrow.fs
            import pyarrow.parquet
        except ImportError:
            raise CannotCheck("to compare a lake: pip install pyarrow") from None
        self._parquet, self._fs = pyarrow.parquet, pyarrow.fs
        if place.startswith("s3://"):
            self._filesystem = self._fs.S3FileSystem(**_s3_options(endpoint_url, region))
            self._root = place.removeprefix("s3://").rstrip("/")
        else:
            self._filesystem = self._fs.LocalFileSystem()
            self._root = str(Path(place).absolute())
        try:
            with self._filesystem.open_input_stream(f"{self._root}/{MARK}") as stream:
                self.mark = json.loads(stream.read(_MOST_MARK))
        except (OSError, ValueError, RecursionError) as error:
            raise CannotCheck(f"{place}: no lake lies there") from error
        if not isinstance(self.mark, dict):
            raise CannotCheck(f"{place}: no lake lies there")

    def files(self, folder: str) -> list[str]:
        """Names below the lake's root."""
        where = f"{self._root}/{folder}"
        selector = self._fs.FileSelector(where, recursive=True, allow_not_found=True)
        found = self._filesystem.get_file_info(selector)
        start = len(self._root) + 1
        return sorted(one.path[start:] for one in found if one.path.endswith(".parquet"))

    def read(self, name: str) -> tuple[dict[str, str], Iterator[Row]]:
        """What the file says of itself, and its rows."""
        file = self._parquet.ParquetFile(f"{self._root}/{name}", filesystem=self._filesystem)
        told = file.metadata.metadata or {}
        return {key.decode(): value.decode("utf-8", "replace") for key, value in told.items()}, (
            row for batch in file.iter_batches(_ROWS) for row in batch.to_pylist()
        )


def _s3_options(endpoint_url: str | None, region: str | None) -> dict[str, Any]:
    """Credentials come from boto3's own chain."""
    try:
        import boto3
    except ImportError:
        raise CannotCheck("to read s3:// addresses: pip install boto3") from None
    session = boto3.session.Session()
    options: dict[str, Any] = {"region": region or session.region_name or "us-east-1"}
    credentials = session.get_credentials()
    if credentials is not None:
        found = credentials.get_frozen_credentials()
        options |= {"access_key": found.access_key, "secret_key": found.secret_key,
                    "session_token": found.token}  # fmt: skip
    if endpoint := endpoint_url or os.environ.get("AWS_ENDPOINT_URL"):
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host, "scheme": scheme or "https"}
    return options


class _Differences:
    """Rows of both sides by key and digest, in a private database on disk."""

    def __init__(self) -> None:
        self.passed_over: set[str] = set()
        """Sessions with rows in the lake that were not compared."""
        self._database = sqlite3.connect("")
        self._database.execute(
            "CREATE TABLE row (key TEXT, digest BLOB, file TEXT, expected INTEGER, found INTEGER)"
        )

    def close(self) -> None:
        self._database.close()

    def expect(self, row: Row) -> None:
        """A row of the evidence, and its lines of the index."""
        self._add(_key(row), _digest(row), "", 1, 0)
        if row["class_uid"] == 6005:
            for line in index_lines(row):
                self._add(_index_key(line), _digest(line), "", 1, 0)

    def find(self, row: Row, file: str) -> None:
        self._add(_key(row), _digest(row), file, 0, 1)

    def find_line(self, line: list[Any], file: str) -> None:
        self._add(_index_key(line), _digest(line), file, 0, 1)

    def _add(self, *values: Any) -> None:
        self._database.execute("INSERT INTO row VALUES (?, ?, ?, ?, ?)", values)

    def tell(self, lake: _Lake, findings: Findings) -> None:
        """Defects in the order of the keys: altered where the key is on both sides."""
        self._database.execute("CREATE INDEX by_key ON row (key, digest)")
        found = self._database.execute(
            "SELECT key, sum(e), sum(f), max(file) FROM (SELECT key, max(file) AS file,"
            " max(sum(expected) - sum(found), 0) AS e, max(sum(found) - sum(expected), 0) AS f"
            " FROM row GROUP BY key, digest) GROUP BY key HAVING sum(e) + sum(f) > 0 ORDER BY key"
        )
        for key, missing, extra, file in found:
            name = f"lake/{file}" if file else "lake"
            if missing and extra:
                findings.defect(name, "altered", f"{key}: says other things than the evidence")
            elif missing:
                findings.defect(name, "missing", f"{key}: {_rows(missing)} not there")
            else:
                findings.defect(name, "extra", f"{key}: {_rows(extra)} in no evidence")


def _rows(count: int) -> str:
    return "a row is" if count == 1 else f"{count} rows are"


def _key(row: Row) -> str:
    if row["class_uid"] == 6005:
        return f"session {row['session']}, operation {row['operation']}, frame {row['frame']}"
    return f"session {row['session']}, its {row['kind']}"


def _index_key(line: list[Any]) -> str:
    return f"session {line[4]}, operation {line[8]}, in the index by object"


def _digest(value: Any) -> bytes:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).digest()


def _read_lake(
    lake: _Lake,
    histories: Mapping[str, History],
    findings: Findings,
    differences: _Differences,
    settled: set[str],
    selected: Callable[[str], bool],
) -> None:
    """Every file: its own words, each row against itself, and the rows for the comparison.

    Sessions that went on when the lake was built are left out: it is older than they are.
    """
    known = {session for history in histories.values() for session in history.opens}

    def wanted(session: Any) -> bool:
        compared = session in settled or session not in known
        if not compared and selected(str(session)):
            differences.passed_over.add(str(session))
        return compared and selected(str(session))

    for class_uid, folder in FOLDERS.items():
        for name in lake.files(folder):
            _check_file(lake, name, class_uid, histories, findings, differences, wanted)
    for name in lake.files(TOUCHED):
        try:
            for stored in lake.read(name)[1]:
                line = [stored.get(column) for column in INDEX]
                line[3] = microseconds(line[3])
                if wanted(line[4]):
                    differences.find_line(line, name)
        except (OSError, ValueError) as error:
            findings.defect(f"lake/{name}", "format", f"cannot be read: {error}")


def _check_file(
    lake: _Lake,
    name: str,
    class_uid: int,
    histories: Mapping[str, History],
    findings: Findings,
    differences: _Differences,
    wanted: Callable[[Any], bool],
) -> None:
    sessions: set[str] = set()
    try:
        told, rows = lake.read(name)
        for stored in rows:
            row = flat(stored)
            sessions.add(str(row["session"]))
            if row["class_uid"] != class_uid or not _is_sound(stored, row, name):
                findings.defect(f"lake/{name}", "altered", f"{_key(row)}: its OCSF attributes are "
                                "not those of its activity")  # fmt: skip
            if wanted(row["session"]):
                differences.find(row, name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        findings.defect(f"lake/{name}", "format", f"cannot be read: {error}")
        return
    log = f"{told.get('trailgate.node')}/{told.get('trailgate.log')}"
    expected = _told(histories.get(log), sessions) if log in histories else None
    ours = {key: value for key, value in told.items() if key.startswith("trailgate.")}
    ours.pop("trailgate.proved_to", None)
    if ours != expected and sessions <= _closed(histories.get(log)):
        findings.defect(f"lake/{name}", "metadata", "says other things of its log, leaves and "
                        "frame root than the evidence")  # fmt: skip


def _is_sound(stored: Row, row: Row, name: str) -> bool:
    if row["class_uid"] not in FOLDERS:
        return False
    text = (stored.get("unmapped") or {}).get("text")
    expected = ocsf(row, text if isinstance(text, str) else None)
    day = f"/eventDay={_day(row['time'])}/"
    return day in name and all(stored.get(key) == value for key, value in expected.items())


def _day(time: int | None) -> str:
    return datetime.fromtimestamp((time or 0) // 10**6, UTC).strftime("%Y%m%d")


def _closed(history: History | None) -> set[str]:
    return set(history.closes) if history is not None else set()


def _told(history: History | None, sessions: Iterable[str]) -> dict[str, str] | None:
    """What a file's metadata must say."""
    if history is None:
        return None
    known = sorted(one for one in sessions if one in history.opens)
    leaves = [history.opens[one].index for one in known]
    peaks: list[bytes] = []
    closed = [one for one in known if one in history.closes]
    for count, one in enumerate(closed):
        leaf = history.closes[one]
        leaves.append(leaf.index)
        row = _raw(one) + leaf.frames.to_bytes(8, "little") + bytes.fromhex(leaf.root)
        tree.push(peaks, count, tree.leaf_hash(row))
    told = {"node": history.node, "log": str(history.number), "sessions": str(len(known)),
            "first_leaf": str(min(leaves, default=0)), "last_leaf": str(max(leaves, default=0)),
            "frame_root": tree.root(peaks).hex()}  # fmt: skip
    return {f"trailgate.{name}": value for name, value in told.items()}


def _raw(session: str) -> bytes:
    return base64.b32decode(session.upper() + "======")
