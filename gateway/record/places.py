# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a record is read from: a folder or a bucket, by name and range, with a bounded cache."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface
from urllib.parse import urlsplit

BLOCK = 4 << 20
CACHED_BLOCKS = 8
SMALL = 256 << 10
"""A range below this is asked for as it is: footers, headers and wraps are read once."""
MOST_README = 65536
_MAY_NAME = re.compile(r"s3://[^\0]+|(?:\.\./)?[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""Nothing of this machine but what lies beside the evidence, whatever a README.json says."""
# Of a pipe that lies where a file should, whoever opens it would wait for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unreadable(Exception):
    """The record cannot be read there; the text names the place, `cure` what to do."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


class Gone(Exception):
    """The object is not there (any more)."""


class Place(Interface):
    """A tree of objects with slash-separated names."""

    shown: str
    """For people: the folder or the s3:// address."""
    at_once: int
    """How many small reads are worth doing at the same time."""

    def names(self, below: str) -> dict[str, int]:
        """Name and size in bytes of every object whose name begins with `below`, a folder's."""

    def read(self, name: str, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on; fewer at the end. Raises Gone, Unreadable."""


class Folder:
    """Regular files below a folder; links are not followed."""

    at_once = 1

    def __init__(self, root: Path) -> None:
        self._root = root
        self.shown = str(root)

    def names(self, below: str) -> dict[str, int]:
        return dict(self._walk(self._root / below, below))

    def _walk(self, folder: Path, below: str) -> Iterator[tuple[str, int]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _denied(folder, error) from error
        for entry in entries:
            name = below + entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(folder / entry.name, name + "/")
                elif entry.is_file(follow_symlinks=False):
                    yield name, entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # a live gateway moves its files on

    def read(self, name: str, start: int, size: int) -> bytes:
        path = self._root / name
        try:
            descriptor = os.open(path, _READ)
        except (FileNotFoundError, NotADirectoryError):
            raise Gone(name) from None
        except OSError as error:
            raise _denied(path, error) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Gone(name)
            return os.pread(descriptor, size, start)
        except OSError as error:
            raise _denied(path, error) from error
        finally:
            os.close(descriptor)


def _denied(path: Path, error: OSError) -> Unreadable:
    return Unreadable(f"{path}: {error.strerror}", "read the record as a user who may")


class Bucket:
    """Objects below `s3://bucket/prefix`, read in blocks; the last few blocks are kept."""

    at_once = 8

    def __init__(self, address: str, client: Any) -> None:
        parts = urlsplit(address)
        if parts.scheme != "s3" or not parts.netloc:
            raise Unreadable(f"{address}: no such place", "write s3://BUCKET/PREFIX")
        self.shown = address.rstrip("/")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._client = client
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def names(self, below: str) -> dict[str, int]:
        start = len(self._prefix)
        pages = self._client.get_paginator("list_objects_v2")
        try:
            listed = pages.paginate(Bucket=self._bucket, Prefix=self._prefix + below)
            return {
                item["Key"][start:]: item["Size"]
                for page in listed
                for item in page.get("Contents", [])
            }
        except Exception as error:
            raise self._failed(below, error) from error

    def read(self, name: str, start: int, size: int) -> bytes:
        if size < SMALL:
            return self._get(name, start, size) if size else b""
        pieces = []
        while size > 0:
            inside = start % BLOCK
            piece = self._block(name, start // BLOCK)[inside : inside + size]
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
            if not piece or inside + len(piece) < BLOCK:
                break
        return b"".join(pieces)

    def _block(self, name: str, number: int) -> bytes:
        place = (name, number)
        if place in self._blocks:
            self._blocks.move_to_end(place)
            return self._blocks[place]
        self._blocks[place] = block = self._get(name, number * BLOCK, BLOCK)
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return block

    def _get(self, name: str, start: int, size: int) -> bytes:
        span = f"bytes={start}-{start + size - 1}"
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._prefix + name, Range=span
            )
            with answer["Body"] as body:
                return bytes(body.read(size))
        except Exception as error:
            if _code(error) == "InvalidRange":
                return b""
            raise self._failed(name, error) from error

    def _failed(self, name: str, error: Exception) -> Exception:
        """What to raise for an error of boto3; anything else is a fault of ours and stays."""
        from botocore.exceptions import BotoCoreError, ClientError

        if _code(error) in ("NoSuchKey", "404"):
            return Gone(name)
        if isinstance(error, BotoCoreError | ClientError | OSError):
            where = f"s3://{self._bucket}/{self._prefix}{name}"
            return Unreadable(f"{where}: {error}", "check the address, region and credentials")
        return error


def _code(error: Exception) -> str:
    """S3's error code; empty for other errors."""
    answer: dict[str, Any] = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


@dataclass(frozen=True, slots=True)
class Places:
    """All that belongs to one record. `journal`: files that may still be written; None: unknown."""

    evidence: Place
    keys: tuple[Place, ...]
    journal: Place | None
    data: Path | None
    """The gateway's data folder, where the record lies in one."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How to reach a record in a bucket, and wrapped keys that are not where README.json says."""

    keys: str | None = None
    endpoint_url: str | None = None
    region: str | None = None


def find_places(place: Path | str, reach: Reach = Reach()) -> Places:
    """A data folder, an evidence folder or s3://bucket/prefix. Raises Unreadable."""
    if isinstance(place, str) and place.startswith("s3://"):
        return _in_bucket(place, reach)
    path = Path(place)
    if not path.is_dir():
        raise Unreadable(f"{path} is not a folder", "name a data folder or an evidence folder")
    if (path / "evidence").is_dir() or (path / "journal").is_dir():
        evidence, data = path / "evidence", path
    elif (path / "README.json").is_file() or (path / "log").is_dir():
        evidence, data = path, None
    else:
        raise Unreadable(
            f"{path}: no record lies here",
            "name the gateway's data folder, or the folder that has README.json and log/",
        )
    keys = [_keys_of_folder(evidence, reach)]
    if data is not None and data / "keys" != evidence.parent / "keys":
        keys.append(Folder(data / "keys"))
    return Places(Folder(evidence), tuple(keys), Folder(data / "journal") if data else None, data)


def _keys_of_folder(evidence: Path, reach: Reach) -> Place:
    if reach.keys:
        return _given_keys(reach.keys, reach)
    beside = _keys_beside(Folder(evidence))
    if beside.startswith("s3://"):
        return Bucket(beside, _client(reach))
    return Folder(Path(os.path.normpath(evidence / beside)))


def _given_keys(place: str, reach: Reach) -> Place:
    if place.startswith("s3://"):
        return Bucket(place, _client(reach))
    if not Path(place).is_dir():
        raise Unreadable(f"{place}: no such folder", "name the one that holds SESSION/SHA256.wrap")
    return Folder(Path(place))


def _in_bucket(address: str, reach: Reach) -> Places:
    client, address = _client(reach), address.rstrip("/")
    evidence = Bucket(address, client)
    if not _has_readme(evidence) and _has_readme(inner := Bucket(f"{address}/evidence", client)):
        evidence = inner
    if reach.keys:
        return Places(evidence, (_given_keys(reach.keys, reach),), None, None)
    beside = _keys_beside(evidence)
    if not beside.startswith("s3://"):
        bucket, _, prefix = evidence.shown.removeprefix("s3://").partition("/")
        beside = f"s3://{bucket}{os.path.normpath('/' + prefix + '/' + beside)}"
    return Places(evidence, (Bucket(beside, client),), None, None)


def _client(reach: Reach) -> Any:
    """Credentials come from boto3's own chain only."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.client("s3", endpoint_url=reach.endpoint_url, region_name=reach.region)
    except (BotoCoreError, ValueError) as error:
        raise Unreadable(f"S3: {error}", "check --region and --endpoint-url") from error


def _has_readme(place: Place) -> bool:
    try:
        return bool(place.read("README.json", 0, 1))
    except Gone:
        return False


def _keys_beside(evidence: Place) -> str:
    """Where README.json says the keys are; beside the evidence, if it says nothing."""
    try:
        readme: Any = json.loads(evidence.read("README.json", 0, MOST_README))
        keys = readme["keys"]
    except (Gone, ValueError, KeyError, TypeError, RecursionError):
        return "../keys"
    return keys if isinstance(keys, str) and _MAY_NAME.fullmatch(keys) else "../keys"
