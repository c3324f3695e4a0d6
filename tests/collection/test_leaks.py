# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret that leaked is found, in whatever form: what looks for none must be able to see one."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import zstandard

from tests.collection.leaks import files_with, holds, process_list

SECRET = 's3eded "quoted" /and+more'


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_it_is_found_in_base64_wherever_it_begins(offset: int) -> None:
    around = base64.b64encode(b"x" * offset + SECRET.encode() + b"behind")
    assert holds(around, [SECRET])


def test_it_is_found_plain_escaped_and_packed(tmp_path: Path) -> None:
    plain = b"before " + SECRET.encode() + b" behind"
    planted = {
        "plain": plain,
        "json": json.dumps({"password": SECRET}).encode(),
        "url": b"postgresql://u:s3eded%20%22quoted%22%20%2Fand%2Bmore@host/db",
        "hexadecimal": SECRET.encode().hex().encode(),
        "gzip": gzip.compress(plain * 40),
        "zstandard": zstandard.ZstdCompressor().compress(plain * 40),
    }
    for name, content in planted.items():
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tfstate", plain * 40)
    (tmp_path / "innocent").write_bytes(b"seeded quoted and more")
    found = {path.name for path in files_with([SECRET], tmp_path)}
    assert found == {*planted, "zip"}


def test_no_files_at_all_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing to look at"):
        files_with([SECRET], tmp_path)


def test_it_is_found_in_a_process_list() -> None:
    with process_list() as seen:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", SECRET], check=True)
    assert [line for line in seen if holds(line, [SECRET])]
