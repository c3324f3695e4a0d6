# SPDX-License-Identifier: GPL-3.0-or-later
"""The data folder: one gateway at a time, nobody else may look into it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StartFailed(Exception):
    """The gateway cannot start; the text names the place, `cure` what to do."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold DATA/lock, with the process's id in it; the folder is made if need be (0700).

    Raises StartFailed. The lock is the kernel's: it ends with the process, however that ends.
    """
    descriptor = _opened(data)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise StartFailed(
                f"{data}: a gateway is running there (process {holder or 'unknown'})",
                "end it first, or use another data folder",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def _opened(data: Path) -> int:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartFailed(
            f"data folder {data}: {error.strerror}",
            "it must be a folder that this user may write, with space left",
        ) from error
    return descriptor
