# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are either whole or not there, whenever the power fails. All of it blocks."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that pass once there is room again."""


def put(path: Path, data: bytes, unfinished: Path, mode: int = 0o644) -> None:
    """Write `path` by way of `unfinished` (same file system): synced before it has its name."""
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(unfinished, path)
    sync_folder(path.parent)


def put_unsynced(path: Path, data: bytes, unfinished: Path) -> None:
    """As `put`, but only the death of the process is survived until `sync_file_system`."""
    unfinished.write_bytes(data)
    os.rename(unfinished, path)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder and those above it, durably."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=mode, exist_ok=True)
    sync_folder(path.parent)


def sync_file_system(path: Path) -> None:
    """syncfs(2): many small files at the price of one sync. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def explain(place: Path, error: OSError) -> str:
    """What happened where, and the cure."""
    cures = {
        errno.ENOSPC: "the disk is full: free space there",
        errno.EDQUOT: "the quota is used up: free space there",
        errno.EFBIG: "a limit on file sizes (ulimit -f) is in the way: raise it",
        errno.EACCES: "may not be written: give it to the gateway's user",
        errno.EPERM: "may not be written: give it to the gateway's user",
        errno.EROFS: "is read-only: mount it for writing",
        errno.ENOENT: "is missing: make the folder",
        errno.ENOTDIR: "is no folder: name another place",
    }
    said = cures.get(error.errno or 0, f"{error.strerror or error}: check the disk")
    return f"{error.filename or place}: {said}"
