# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients' own test suites, through the gateway: what passes on the server must pass through it.

The exceptions stand, each with its reason, in docs/client-suites.md and in EXCEPTIONS here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.bench.stage import Peer, server
from tests.live.gateway_process import Gateway, start

BUFFERS = "how much a client writes before an error reaches it is a matter of the buffers between"
CAP = "writes a statement of 20 MiB; the gateway reads statements whole, so their length has a cap"
STRINGS = "standard_conforming_strings=off at start-up changes how text is read, by policy too"
TOKEN = "logs in with another account's password; at the gateway the password is a token"
NAME = "the gateway puts the session's id in front of the application name"
TLS = "expects no TLS after ssl=off on the server; the client's TLS is the gateway's"

EXCEPTIONS: dict[str, str] = {
    "tests/test_execute.py::TestExecuteMany::test_executemany_server_failure_during_writes": (
        BUFFERS
    ),
    "tests/test_async.py::AsyncTests::test_flush_on_write": CAP,
    "tests/test_green.py::GreenTestCase::test_flush_on_write": CAP,
    "tests/test_types_extras.py::JsonTestCase::test_scs": STRINGS,
    "test/dbapi/test_connection.py::test_password_bytes": TOKEN,
    "test/legacy/test_connection.py::testBytesPassword": TOKEN,
    "test/native/test_connection.py::test_bytes_password": TOKEN,
    "test/dbapi/test_connection.py::test_application_name": NAME,
    "test/legacy/test_connection.py::testApplicatioName": NAME,
    "test/native/test_connection.py::test_application_name": NAME,
    "test/native/auth/test_scram-sha-256.py::test_scram_sha_256_ssl_True": TLS,
}
"""Test id -> why a gateway must not let it pass."""
MULTIPLE_HOSTS = "::test_multiple_host_real_connect["
"""SQLAlchemy's: replaces each H and P of a URL, those of the token too. Its ids hold versions."""

HERE = Path(__file__).resolve().parent
RESULT = re.compile(r"^(FAILED|ERROR) (\S+)", re.M)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Peer]:
    for folder in [tmp_path, *list(tmp_path.parents)[:3]]:
        folder.chmod(0o755)
    with server(tmp_path, "max_prepared_transactions=10\n") as peer:
        yield peer


def clients(folder: Path, *packages: str) -> Path:
    """The Python of a new environment that holds the packages."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "-q", "pytest", *packages]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"no {', '.join(packages)}: {run.stderr[-200:]}")
    return python


def source_of(package: str, folder: Path, python: Path, installed: str = "") -> Path:
    """The unpacked source distribution of the version that is installed (as `installed`)."""
    ask = f"import importlib.metadata as m; print(m.version({installed or package!r}))"
    version = subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True)
    name = f"{package}=={version.stdout.strip()}"
    command = [str(python), "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    run = subprocess.run([*command, "-d", str(folder), name], capture_output=True, text=True)
    archives = list(folder.glob(f"{package}-*.tar.gz"))
    if not archives:
        pytest.skip(f"no source distribution of {name}: {run.stderr[-200:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.glob(f"{package}-*") if path.is_dir())


def suite_of(source: Path, tests: str) -> Path:
    """The tests alone, away from the source, so that the wheel is imported."""
    suite = source.parent / "suite"
    suite.mkdir()
    (source / tests).rename(suite / tests)
    return suite


def failures(
    python: Path, suite: Path, environment: dict[str, str], *arguments: str, tests: str = "tests"
) -> set[str]:
    command = [str(python), "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [
            *command,
            "-o",
            "addopts=",
            f"--basetemp={suite / 'temporary'}",
            *arguments,
            *tests.split(),
        ],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert " passed" in run.stdout, run.stdout[-2000:] + run.stderr[-2000:]
    return {name for _, name in RESULT.findall(run.stdout)}


def direct(postgres: Peer) -> dict[str, str]:
    return {**postgres.environment(False), "PGDATABASE": "postgres", "PGSSLMODE": "prefer"}


@pytest.fixture
def gateway(postgres: Peer, tmp_path: Path) -> Iterator[Gateway]:
    running = start(tmp_path / "data", postgres)
    yield running
    assert running.stop() == 0


@pytest.mark.timeout(3000)
def test_asyncpgs_own_tests_fail_no_more_than_on_the_server(
    postgres: Peer, gateway: Gateway, tmp_path: Path
) -> None:
    python = Path(sys.executable)
    suite = suite_of(source_of("asyncpg", tmp_path, python), "tests")
    on_the_server = failures(python, suite, direct(postgres))
    through = failures(python, suite, gateway.environment("postgres"))
    assert through - on_the_server - EXCEPTIONS.keys() == set()


@pytest.mark.timeout(3000)
def test_psycopg2s_own_tests_fail_no_more_than_on_the_server(
    postgres: Peer, gateway: Gateway, tmp_path: Path
) -> None:
    python = clients(tmp_path / "venv", "psycopg2-binary")
    suite = suite_of(source_of("psycopg2", tmp_path, python, "psycopg2-binary"), "tests")

    def fail(environment: dict[str, str]) -> set[str]:
        named = {f"PSYCOPG2_TESTDB_{k}": environment[f"PG{k}"] for k in ("HOST", "PORT", "USER")}
        return failures(python, suite, {**environment, **named, "PSYCOPG2_TESTDB": "postgres"})

    on_the_server = fail(direct(postgres))
    assert fail(gateway.environment("postgres")) - on_the_server - EXCEPTIONS.keys() == set()


@pytest.mark.timeout(3000)
def test_pg8000s_own_tests_fail_no_more_than_on_the_server(
    postgres: Peer, gateway: Gateway, tmp_path: Path
) -> None:
    python = clients(tmp_path / "venv", "pg8000", "pytest-mock", "pytz")
    suite = suite_of(source_of("pg8000", tmp_path, python), "test")
    given = ["--ignore-glob=*/test_benchmarks.py", "--ignore=test/test_readme.py"]
    on_the_server = failures(python, suite, direct(postgres), *given, tests="test")
    through = failures(python, suite, gateway.environment("postgres"), *given, tests="test")
    assert through - on_the_server - EXCEPTIONS.keys() == set()


@pytest.mark.timeout(3000)
def test_sqlalchemys_tests_with_psycopg_fail_no_more_than_on_the_server(
    postgres: Peer, gateway: Gateway, tmp_path: Path
) -> None:
    python = clients(tmp_path / "venv", "sqlalchemy", "psycopg[binary]")
    source = source_of("sqlalchemy", tmp_path, python)
    on_the_server = sqlalchemy_failures(python, source, "on_server", postgres, direct(postgres))
    environment = gateway.environment("through_gateway")
    through = sqlalchemy_failures(python, source, "through_gateway", postgres, environment)
    new = {name for name in through - on_the_server if MULTIPLE_HOSTS not in name}
    assert new == set()


def sqlalchemy_failures(
    python: Path, source: Path, database: str, postgres: Peer, environment: dict[str, str]
) -> set[str]:
    """Those of a run in a new database of that name."""
    subprocess.run(["createdb", "-T", "template0", database], env=direct(postgres), check=True)
    words = ("schema test_schema", "schema test_schema_2", "extension hstore", "extension citext")
    create = [f"-ccreate {word}" for word in words]
    psql = ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", database, *create]
    subprocess.run(psql, env=direct(postgres), check=True)
    secret = quote(environment["PGPASSWORD"], safe="")
    url = f"postgresql+psycopg://{environment['PGUSER']}:{secret}@127.0.0.1"
    given = ["--backend-only", "--maxfail=1000", "--dburi"]
    url = f"{url}:{environment['PGPORT']}/{database}"
    tests = "test/dialect test/engine test/sql"
    return failures(python, source, environment, *given, url, tests=tests)


@pytest.fixture
def node_postgres(tmp_path: Path) -> Path:
    """The program beside this file, with node-postgres beside it."""
    if shutil.which("npm") is None:
        pytest.skip("no npm")
    folder = tmp_path / "node"
    folder.mkdir()
    packages = ["pg@8", "pg-cursor@2", "pg-query-stream@4", "pg-copy-streams@7"]
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"no node-postgres: {run.stderr[-200:]}")
    return Path(shutil.copy(HERE / "node_postgres.js", folder))


def printed(program: Path, environment: dict[str, str]) -> list[str]:
    command = ["node", "--no-deprecation", str(program)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.splitlines()


@pytest.mark.timeout(900)
def test_node_postgres_sees_the_same_as_on_the_server(
    postgres: Peer, gateway: Gateway, node_postgres: Path
) -> None:
    on_the_server = printed(node_postgres, direct(postgres))
    assert len(on_the_server) > 20 and not [line for line in on_the_server if "thrown" in line]
    environment = gateway.environment("postgres")
    assert printed(node_postgres, environment) == on_the_server
    assert printed(node_postgres, {**environment, "CA": gateway.ready["ca"]}) == on_the_server
