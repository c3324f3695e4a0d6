# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients' own test suites, through the gateway: what passes on the server must pass through it.

The exceptions stand, each with its reason, in docs/client-suites.md and in EXCEPTIONS here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.stage import Peer, server
from tests.live.gateway_process import start

EXCEPTIONS: dict[str, str] = {
    "tests/test_execute.py::TestExecuteMany::test_executemany_server_failure_during_writes": (
        "how much a client writes before an error reaches it is a matter of the buffers between"
    ),
}
"""Test id -> why a gateway must not let it pass."""

RESULT = re.compile(r"^(FAILED|ERROR) (\S+)", re.M)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Peer]:
    for folder in [tmp_path, *list(tmp_path.parents)[:3]]:
        folder.chmod(0o755)
    with server(tmp_path, "max_prepared_transactions=10\n") as peer:
        yield peer


def source_of(package: str, folder: Path) -> Path:
    """The unpacked source distribution of the installed version of a package."""
    from importlib.metadata import version

    name = f"{package}=={version(package)}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    run = subprocess.run([*command, "-d", str(folder), name], capture_output=True, text=True)
    archives = list(folder.glob(f"{package}-*.tar.gz"))
    if not archives:
        pytest.skip(f"no source distribution of {name}: {run.stderr[-200:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.glob(f"{package}-*") if path.is_dir())


def failures(tests: Path, environment: dict[str, str]) -> set[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "-o", "addopts=", f"--basetemp={tests.parent / 'temporary'}", "tests"],
        cwd=tests.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert " passed" in run.stdout, run.stdout[-2000:] + run.stderr[-2000:]
    return {name for _, name in RESULT.findall(run.stdout)}


@pytest.mark.timeout(3000)
def test_asyncpgs_own_tests_fail_no_more_than_on_the_server(postgres: Peer, tmp_path: Path) -> None:
    source = source_of("asyncpg", tmp_path)
    tests = tmp_path / "suite" / "tests"  # away from the source, so that the wheel is imported
    tests.parent.mkdir()
    (source / "tests").rename(tests)
    direct = {**os.environ, "PGPASSWORD": postgres.password, "PGPORT": str(postgres.port)}
    direct |= {"PGHOST": "127.0.0.1", "PGUSER": postgres.user, "PGDATABASE": "postgres"}
    on_the_server = failures(tests, direct)
    gateway = start(tmp_path / "data", postgres)
    through = failures(tests, gateway.environment("postgres"))
    assert gateway.stop() == 0
    assert through - on_the_server - EXCEPTIONS.keys() == set()
