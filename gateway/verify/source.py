# SPDX-License-Identifier: GPL-3.0-or-later
"""Where evidence is read from: the small interface, and the folder. S3 is in `s3`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol as Interface

from gateway.verify.findings import CannotCheck

_IS_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV)


class Missing(Exception):
    """The object is not there."""


class Chunks(Interface):
    """An object that is read from front to back."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; empty at the end."""


class Source(Interface):
    """A tree of objects with slash-separated names."""

    place: str
    """For people: the folder or the s3:// address."""

    def names(self) -> dict[str, int]:
        """Every object's name and size."""

    def oddities(self) -> list[tuple[str, str, str]]:
        """(name, kind, detail) of what listing met that evidence must not have."""

    def read(self, name: str, most: int) -> bytes:
        """A whole object. Raises Missing; CannotCheck when unreadable; ValueError above `most`."""

    def open(self, name: str) -> AbstractContextManager[Chunks]:
        """Stream an object. Raises Missing, CannotCheck."""


class FolderSource:
    """Objects are regular files below a folder; anything else in it is odd."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = str(root)
        self._odd: list[tuple[str, str, str]] = []

    def names(self) -> dict[str, int]:
        self._odd = []
        return dict(self._walk(self._root, ""))

    def oddities(self) -> list[tuple[str, str, str]]:
        return list(self._odd)

    def _walk(self, folder: Path, below: str) -> Iterator[tuple[str, int]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CannotCheck(f"{folder}: {error.strerror}; read it as a user who may") from error
        for entry in entries:
            name = below + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(folder / entry.name, name + "/")
            elif entry.is_file(follow_symlinks=False):
                yield from self._sized(entry, name)
            else:
                detail = "neither a file nor a folder (a symlink?): evidence holds plain files only"
                self._odd.append((name, "irregular", detail))

    def _sized(self, entry: os.DirEntry[str], name: str) -> Iterator[tuple[str, int]]:
        try:
            yield name, entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            # A live gateway replaces partial tiles; what is gone is not there.
            return

    def read(self, name: str, most: int) -> bytes:
        with self.open(name) as chunks:
            data = chunks.read(most + 1)
        if len(data) > most:
            raise ValueError(f"is larger than the {most} bytes that such an object may have")
        return data

    @contextmanager
    def open(self, name: str) -> Iterator[Chunks]:
        with os.fdopen(self._descriptor(name), "rb", buffering=0) as file:
            try:
                yield file
            except OSError as error:
                raise CannotCheck(f"{self._root / name}: {error.strerror}") from error

    def _descriptor(self, name: str) -> int:
        """Only of a regular file: of a pipe, whoever reads would wait for ever."""
        try:
            descriptor = os.open(self._root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in _IS_NO_FILE:
                raise Missing(name) from None
            raise CannotCheck(f"{self._root / name}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Missing(name)
        return descriptor


class JoinedSource:
    """The evidence and, as `keys/...`, the wrapped keys that lie somewhere else."""

    def __init__(self, evidence: Source, keys: Source) -> None:
        self._evidence = evidence
        self._keys = keys
        self.place = evidence.place

    def names(self) -> dict[str, int]:
        keys = {f"keys/{name}": size for name, size in self._keys.names().items()}
        return {**self._evidence.names(), **keys}

    def oddities(self) -> list[tuple[str, str, str]]:
        keys = [(f"keys/{name}", kind, text) for name, kind, text in self._keys.oddities()]
        return self._evidence.oddities() + keys

    def read(self, name: str, most: int) -> bytes:
        source, inner = self._route(name)
        return source.read(inner, most)

    def open(self, name: str) -> AbstractContextManager[Chunks]:
        source, inner = self._route(name)
        return source.open(inner)

    def _route(self, name: str) -> tuple[Source, str]:
        if name.startswith("keys/"):
            return self._keys, name.removeprefix("keys/")
        return self._evidence, name
