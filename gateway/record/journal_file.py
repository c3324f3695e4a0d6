# SPDX-License-Identifier: GPL-3.0-or-later
"""One journal file: every block allocated, mapped, and written in one memory copy a frame."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from zlib import crc32

from gateway.record import durable
from gateway.record.frames import PREFIX, PREFIX_BYTES, FooterRow, Header, encode_footer, seed

_ROW_BYTES = 152
PEAK_BYTES = 67
_COPY_BELOW = 4096
_pack_prefix = PREFIX.pack_into


def row_bytes(frames: int) -> int:
    """What a session of so many frames needs in a footer at most, its next frame included."""
    return _ROW_BYTES + PEAK_BYTES * ((frames + 1).bit_length() + 1)


class Growing(Protocol):
    """What a row needs to know of its session."""

    next: int
    peaks: list[bytes]


class Row:
    """A session's frames in one file."""

    __slots__ = ("first", "last", "offset", "owner", "peaks", "session")

    def __init__(self, session: bytes, first: int, offset: int, owner: Growing) -> None:
        self.session = session
        self.first = first
        self.offset = offset
        self.owner: Growing | None = owner
        self.last = first
        self.peaks: tuple[bytes, ...] = ()

    def finish(self) -> None:
        """The session goes on elsewhere, or ended: keep how it stands now."""
        if self.owner is not None:
            self.last = self.owner.next - 1
            self.peaks = tuple(self.owner.peaks)
            self.owner = None

    def finished(self) -> FooterRow:
        return FooterRow(self.session, self.first, self.last, self.offset, self.peaks)


class JournalFile:
    """One mapped file. `limit`: where ordinary frames must end."""

    __slots__ = (
        "at", "base", "closed_rows", "descriptor", "frames", "generation", "header", "limit", "map",
        "path", "rows", "seed", "size", "name",
    )  # fmt: skip

    def __init__(self, descriptor: int, size: int, path: Path) -> None:
        self.descriptor = descriptor
        self.size = size
        self.path = path
        self.map = mmap.mmap(descriptor, size)
        # Without this a sync was seen to write two to six times what was recorded (Linux 6.18,
        # ext4), as if whole folios of read-ahead went out for the pages that were touched.
        self.map.madvise(mmap.MADV_RANDOM)
        self.at = 0
        self.base = 0
        self.frames = 0
        self.limit = 0
        self.closed_rows = 0
        self.seed = 0
        self.generation = b""
        self.header: Header | None = None
        self.rows: list[Row] = []
        self.name = path

    @property
    def number(self) -> int:
        assert self.header is not None
        return self.header.number

    def begin(self, header: Header, path: Path, base: int) -> None:
        """Make the spare file number so and so. It gets its name off the loop, by `settle`."""
        data = header.encode()
        self.map[: len(data)] = data
        self.name, self.header, self.generation = path, header, header.generation
        self.at, self.base, self.seed = len(data), base, seed(header.generation)

    def settle(self) -> None:
        """Give a begun file its name, durably. Raises OSError. Blocks."""
        if self.path != self.name:
            os.rename(self.path, self.name)
            self.path = self.name
            durable.sync_folder(self.path.parent)

    def write(self, clear: bytes, sealed: bytes) -> int:
        """Append a frame for which there is room; the position of its end.

        The length goes in last: a copy that a kill cuts short is no frame.
        """
        at, target = self.at, self.map
        start = at + PREFIX_BYTES
        if len(sealed) < _COPY_BELOW:
            body = clear + sealed
            end = start + len(body)
            target[start:end] = body
            crc = crc32(body, self.seed)
        else:
            middle = start + len(clear)
            end = middle + len(sealed)
            target[start:middle] = clear
            target[middle:end] = sealed
            crc = crc32(sealed, crc32(clear, self.seed))
        _pack_prefix(target, at, end - at, crc)
        self.at = end
        self.frames += 1
        return self.base + end

    def discard(self) -> None:
        """Let go of a file that was never begun."""
        self.map.close()
        os.close(self.descriptor)
        self.path.unlink(missing_ok=True)

    def finish_rows(self) -> None:
        for row in self.rows:
            row.finish()

    def close(self, sync: Callable[[int], None]) -> None:
        """Write the footer, cut the rest off and sync: a segment. Raises OSError. Blocks."""
        self.settle()
        footer = encode_footer(self.frames, [row.finished() for row in self.rows])
        end = self.at + len(footer)
        self.map[self.at : end] = footer
        self.map.close()
        os.ftruncate(self.descriptor, end)
        sync(self.descriptor)
        os.close(self.descriptor)


def make_file(path: Path, size: int) -> JournalFile:
    """A spare file whose every block is allocated. Raises OSError. Blocks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        os.posix_fallocate(descriptor, 0, size)
        return JournalFile(descriptor, size, path)
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
