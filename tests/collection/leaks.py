# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks for secrets wherever one could have come to lie: in files, packed or not, or processes."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import zstandard


def forms(secret: str) -> set[bytes]:
    """A secret as it is, and as JSON, URLs, hexadecimal and base64 (at each offset) have it."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), quote(secret, safe="").encode()}
    found.add(json.dumps(secret)[1:-1].encode())
    for offset in range(3):
        # What depends on the bytes before and behind is cut off.
        whole = raw[(3 - offset) % 3 :]
        found.add(base64.b64encode(whole[: len(whole) // 3 * 3]))
    return found


def unpacked(content: bytes) -> Iterator[bytes]:
    """The content, and what is packed in it: zip (as Terraform's plans are), gzip, zstandard."""
    yield content
    if content.startswith(b"PK"):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif content.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError):
            yield gzip.decompress(content)
    elif content.startswith(b"\x28\xb5\x2f\xfd"):
        with suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(content)


def holds(content: bytes, secrets: Iterable[str]) -> bool:
    """Whether one of the secrets is in the content, in whatever form."""
    wanted = [form for secret in secrets for form in forms(secret)]
    return any(form in part for part in unpacked(content) for form in wanted)


def files_with(secrets: Iterable[str], *folders: Path) -> list[Path]:
    """The files below the folders that hold one of the secrets. Raises if there is no file."""
    listed = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    if not listed:
        raise AssertionError(f"nothing to look at in {folders}")
    known = list(secrets)
    return [path for path in listed if holds(path.read_bytes(), known)]


@contextmanager
def process_list() -> Iterator[set[bytes]]:
    """Every command line on the machine that is seen while the block runs."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            for name in filter(str.isdecimal, os.listdir("/proc")):
                with suppress(OSError):  # it has ended
                    seen.add(Path("/proc", name, "cmdline").read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()
