# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's own tests of server, isolation and pipelining, directly and through the gateway.

What the server says must reach the client unchanged, and each statement that the server logged
must be in the record. The known differences stand, each with its reason, in docs/client-suites.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.stage import Peer, server, server_bin
from tests.live.gateway_process import Gateway, command_json, start

SETTINGS = """\
max_prepared_transactions=10
log_statement=all
logging_collector=on
log_destination=jsonlog
log_directory=statements
log_rotation_size=0
"""
RESULT = re.compile(r"^(?:test)? +(\S+) +\.\.\. (ok|FAILED)", re.M)
NAMED = re.compile(r"([a-z2-7]{26})(?: |$)")
"""The session's id at the start of the application name that the target sees."""
CUT_NAME = re.compile(r'^\w+: NOTICE:  identifier "[a-z2-7]{26} isolation/.*\n', re.M)
"""isolationtester adds to the application name that the target sees, which begins with our id."""
EXCEPTIONS: dict[str, str] = {
    "insert-conflict-specconflict": (
        "it looks its sessions up in pg_stat_activity by the whole of their application name"
    ),
}
"""Test -> why a gateway that names its sessions on the server must not let it pass."""
STATEMENT = "statement: "
PIPELINE_ROWS = 700  # as in PostgreSQL's own t/001_libpq_pipeline.pl


@dataclass(frozen=True)
class Sources:
    """PostgreSQL's test folder, and what was built of it."""

    tests: Path
    built: Path


@dataclass(frozen=True)
class Run:
    """The verdicts of one suite run one way, and where its outputs lie."""

    verdicts: dict[str, str]
    results: Path

    @property
    def failed(self) -> set[str]:
        return {name for name, verdict in self.verdicts.items() if verdict != "ok"}

    def output(self, name: str) -> str:
        text = (self.results / f"{name}.out").read_text("utf-8", "surrogateescape")
        return CUT_NAME.sub("", text)


def called(command: list[str], folder: Path) -> str:
    """Run what fetches or builds; where it cannot, the tests are skipped with its reason."""
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    except OSError as error:
        pytest.skip(f"{command[0]}: {error.strerror}")
    if run.returncode:
        pytest.skip(f"{' '.join(command[-3:])}: {run.stderr[-300:]}")
    return run.stdout


def apt(folder: Path) -> list[str]:
    """apt-get with lists of its own, and with the sources of what the machine is set up for."""
    configured = Path("/etc/apt")
    parts = folder / "sources"
    parts.mkdir()
    for path in configured.glob("sources.list.d/*.sources"):
        text = re.sub(r"^Types:.*$", "Types: deb deb-src", path.read_text(), flags=re.M)
        (parts / path.name).write_text(text)
    for path in [configured / "sources.list", *configured.glob("sources.list.d/*.list")]:
        if path.exists():
            text = re.sub(r"^(deb )(.*)$", r"\1\2\ndeb-src \2", path.read_text(), flags=re.M)
            (parts / f"{path.stem}.list").write_text(text)
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": parts,
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    return ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]


def compiled(folder: Path, tests: Path, developer: Path, major: str) -> Path:
    """regress.so with the libraries that its tests load beside it, and libpq_pipeline."""
    built = folder / "built"
    built.mkdir()
    library = Path(f"/usr/lib/postgresql/{major}/lib")
    for name in ("autoinc.so", "refint.so"):
        shutil.copy(library / name, built / name)
    include = developer / f"usr/include/postgresql/{major}/server"
    gcc = ["gcc", "-O1", "-w", f"-I{include}", "-I/usr/include/postgresql"]
    module = ["-shared", "-fPIC", "-o", str(built / "regress.so")]
    called([*gcc, *module, str(tests / "regress/regress.c")], folder)
    client = str(tests / "modules/libpq_pipeline/libpq_pipeline.c")
    libraries = [f"-L{developer / str(library)[1:]}", "-lpgcommon", "-lpgport", "-lpq"]
    internal = "-I/usr/include/postgresql/internal"
    called([*gcc, internal, "-o", str(built / "libpq_pipeline"), client, *libraries], folder)
    return built


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = readable(tmp_path_factory.mktemp("postgresql"))
    major = server_bin().parent.name
    package = f"postgresql-{major}"
    version = called(["dpkg-query", "-Wf", "${Version}", package], folder)
    get = apt(folder)
    called([*get, "update"], folder)
    called([*get, "source", "--download-only", f"{package}={version}"], folder)
    called([*get, "download", f"postgresql-server-dev-{major}={version}"], folder)
    called(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), "developer"], folder)
    with tarfile.open(next(folder.glob("*.orig.tar.*"))) as archive:
        archive.extractall(folder, filter="data")
    tests = next(folder.glob("postgresql-*/src/test"))
    return Sources(tests, compiled(folder, tests, folder / "developer", major))


def readable(folder: Path) -> Path:
    """The server's own user comes in, too."""
    for path in [folder, *list(folder.parents)[:2]]:
        path.chmod(0o755)
    return folder


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[Peer]:
    with server(readable(tmp_path) / "direct", SETTINGS) as peer:
        yield peer


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Peer]:
    with server(readable(tmp_path) / "behind", SETTINGS) as peer:
        yield peer


def environment(peer: Peer | Gateway) -> dict[str, str]:
    mine = peer.environment("postgres") if isinstance(peer, Gateway) else peer.environment(False)
    given = {**mine, "PGSSLMODE": "disable"}  # libpq's texts about a lost link tell TLS apart
    return {name: value for name, value in given.items() if name != "PGDATABASE"}


def run_suite(kind: str, sources: Sources, peer: Peer | Gateway, folder: Path) -> Run:
    """pg_regress or pg_isolation_regress with the suite's whole schedule."""
    (folder / "results").mkdir(parents=True)
    for path in (folder, folder / "results"):
        path.chmod(0o777)  # COPY TO a file is written by the server's own user
    program = {"regress": "pg_regress", "isolation": "pg_isolation_regress"}[kind]
    schedule = {"regress": "parallel_schedule", "isolation": "isolation_schedule"}[kind]
    installed = server_bin().parent / "lib/pgxs/src/test" / kind
    if not (installed / program).exists():
        pytest.skip(f"the server's package has no {program}")
    arguments = {
        "inputdir": sources.tests / kind,
        "outputdir": folder,
        "schedule": sources.tests / kind / schedule,
        "bindir": server_bin(),
        "dlpath": sources.built,
        "host": "127.0.0.1",
        "port": peer.port,
        "encoding": "UTF8",
    }
    words = [f"--{key}={value}" for key, value in arguments.items()]
    run = subprocess.run(
        [str(installed / program), *words, "--no-locale"],
        cwd=installed,
        env=environment(peer),
        capture_output=True,
        text=True,
        timeout=1200,
    )
    verdicts = dict(RESULT.findall(run.stdout))
    assert len(verdicts) > 100, run.stdout[-2000:] + run.stderr[-2000:]
    return Run(verdicts, folder / "results")


def recorded(gateway: Gateway) -> Counter[tuple[str, str]]:
    """(session, text) of each operation in the record."""
    command = ["audit", "replay", "--tree", "-o", "jsonl", "--data", str(gateway.data)]
    run = subprocess.run(
        [sys.executable, "-m", "gateway", *command],
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    found: Counter[tuple[str, str]] = Counter()
    for line in run.stdout.splitlines():
        operation = json.loads(line)
        found[operation["session"], (operation.get("request") or {}).get("text", "")] += 1
    return found


def logged(folder: Path) -> Counter[tuple[str, str]]:
    """(session, text) of each statement in the server's own log."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted((folder / "server/data/statements").glob("*.json")):
        for line in path.read_bytes().splitlines():
            entry = json.loads(line.decode("utf-8", "replace"))
            named = NAMED.match(entry.get("application_name", ""))
            text = entry.get("message", "")
            if named and text.startswith(STATEMENT):
                found[named[1], text.removeprefix(STATEMENT)] += 1
    return found


def compare(kind: str, sources: Sources, direct: Peer, behind: Peer, folder: Path) -> None:
    """Both ways at full record; then the record is verified and holds what the server logged."""
    on_the_server = run_suite(kind, sources, direct, folder / "on-the-server")
    gateway = start(folder / "data", behind, database="postgres")
    through = run_suite(kind, sources, gateway, folder / "through")
    assert gateway.stop() == 0
    assert through.verdicts.keys() == on_the_server.verdicts.keys()
    different = {
        name for name in through.failed if through.output(name) != on_the_server.output(name)
    }
    assert different - EXCEPTIONS.keys() == set()
    assert "Traceback" not in gateway.log.read_text()
    assert command_json("verify", str(gateway.data))["ok"]
    server_saw = logged(folder / "behind")
    assert len(server_saw) > 1000
    assert server_saw - recorded(gateway) == Counter()


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["regress", "isolation"])
def test_the_servers_own_tests_say_the_same_through_the_gateway(
    kind: str, sources: Sources, direct: Peer, behind: Peer, tmp_path: Path
) -> None:
    compare(kind, sources, direct, behind, tmp_path)


@pytest.mark.timeout(900)
def test_libpqs_tests_of_pipelining_pass_and_see_the_expected_messages(
    sources: Sources, behind: Peer, tmp_path: Path
) -> None:
    gateway = start(tmp_path / "data", behind, database="postgres")
    program, env = str(sources.built / "libpq_pipeline"), environment(gateway)
    names = called([program, "tests"], tmp_path).split()
    assert len(names) > 5
    for name in names:
        trace = tmp_path / f"{name}.trace"
        options = ["-r", str(PIPELINE_ROWS), "-t", str(trace), name]
        run = subprocess.run(
            [program, *options, f"host=127.0.0.1 port={gateway.port} dbname=postgres"],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, f"{name}: {run.stderr[-500:]}"
        expected = sources.tests / f"modules/libpq_pipeline/traces/{name}.trace"
        if expected.exists():
            assert trace.read_text() == expected.read_text(), name
    assert gateway.stop() == 0
    assert command_json("verify", str(gateway.data))["ok"]
