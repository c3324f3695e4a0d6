# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit reconcile` with a real server's own log, in each of its three forms."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer
from gateway.protocols.postgresql.server_log import Prefix
from tests.live.gateway_process import Gateway, command, start

pytestmark = pytest.mark.live

PREFIX = "%m [%p] %c %P %q%u@%d %r %a "
SETTINGS = [
    "log_statement=all",
    "log_connections=on",
    "log_disconnections=on",
    "logging_collector=on",
    "log_destination=stderr,csvlog,jsonlog",
    "log_directory=server_log",
    "log_filename=server.log",
    "log_rotation_age=0",
    "log_rotation_size=0",
    f"log_line_prefix={PREFIX}",
    "lc_messages=C",
]
FORMS = {"stderr": "server.log", "csvlog": "server.csv", "jsonlog": "server.json"}
DOCUMENT = {"at", "log", "line", "user", "client", "text"}


@dataclass
class Stage:
    """A gateway that has stopped, and what its server logged."""

    gateway: Gateway
    server: PostgresServer
    folder: Path

    def log(self, form: str) -> Path:
        return self.folder / FORMS[form]

    def reconcile(self, *logs: Path | str, code: int, **options: str) -> dict[str, Any]:
        words = [word for log in logs for word in ("--log", str(log))]
        given = {"prefix": PREFIX, "data": str(self.gateway.data), **options}
        words += [word for name, value in given.items() for word in (f"--{name}", value)]
        done = command("audit", "reconcile", *words, "-o", "json")
        assert done.returncode == code, done.stdout[-2000:] + done.stderr
        found = json.loads(done.stdout)
        assert {"matched", "unmatched", "interval"} <= set(found)
        assert all(set(one) == DOCUMENT for one in found["unmatched"])
        return dict(found)


def texts(found: dict[str, Any]) -> list[str]:
    """What was run past the gateway, without how links began and ended."""
    every = [one["text"] for one in found["unmatched"]]
    return [one for one in every if not one.startswith(("connection authorized", "disconnection"))]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    try:
        made = PostgresServer(tls=True, settings=SETTINGS)
    except NoServer as missing:
        pytest.skip(str(missing))
    with made:
        yield made


def logged(server: PostgresServer) -> Path:
    return server.folder / "data" / "server_log"


def settled(server: PostgresServer, mark: str) -> None:
    """The collector has written what was logged before."""
    server.psql(f"select '{mark}'")
    end = time.monotonic() + 20
    while any(mark not in (logged(server) / name).read_text() for name in FORMS.values()):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def stage(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Through the gateway: many kinds of requests. Beside it: a psql, and a login that failed."""
    folder = tmp_path_factory.mktemp("reconciled")
    gateway = start(folder / "data", server, database="postgres")
    with psycopg.connect(gateway.dsn("postgres", application_name="app"), autocommit=True) as link:
        link.execute("select 1\n  as one,\n\t'two\nlines'")
        link.execute("select %s::int", (7,), prepare=True)
        link.execute("set application_name = 'somebody else'")
        with pytest.raises(psycopg.errors.UndefinedTable):
            link.execute("select * from nowhere")
        with pytest.raises(psycopg.errors.SyntaxError):
            link.execute("selct")
        link.execute("do $$ begin raise notice 'a\nb'; end $$")
        parallel(link)
        with link.pipeline():
            link.execute("select 2")
            link.execute("select 3")
    # Executed and never described: the gateway sends a Describe of its own.
    gateway.psql("select 'simple'; select 'again'", database="postgres")
    server.psql("select 'past the gateway,\n \"and\" over lines'")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url().replace(server.password, "wrong"), connect_timeout=10)
    gateway.psql("select 'after it'", database="postgres")
    assert gateway.stop() == 0
    settled(server, "the end of the log")
    # A copy of the text form as a file of its own, without what settled() logged.
    for name in FORMS.values():
        whole = (logged(server) / name).read_bytes()
        (folder / name).write_bytes(whole)
    yield Stage(gateway, server, folder)


def parallel(link: psycopg.Connection[Any]) -> None:
    """Workers of a parallel query log its failure as theirs."""
    link.execute("create table many as select generate_series(1, 1000) as id")
    for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size",
                    "parallel_leader_participation"):  # fmt: skip
        link.execute(f"set {setting} = 0")
    link.execute("analyze many")
    with pytest.raises(psycopg.errors.DivisionByZero):
        link.execute("select sum(1 / (id - 500)) from many")


@pytest.mark.parametrize("form", FORMS)
def test_what_came_past_the_gateway_is_told_and_nothing_else(stage: Stage, form: str) -> None:
    found = stage.reconcile(stage.log(form), code=1)
    assert texts(found) == [
        "select 'past the gateway,\n \"and\" over lines'",
        "select 'the end of the log'",
    ]
    assert found["refused"] in (1, 2)  # libpq tries again without TLS
    assert found["matched"] >= 14
    told = next(one for one in found["unmatched"] if "past the" in one["text"])
    assert told["user"] == "postgres" and told["client"].startswith("127.0.0.1")
    line = stage.log(form).read_text().splitlines()[told["line"] - 1]
    assert "past the gateway" in line
    assert found["interval"]["since"] <= told["at"] <= found["interval"]["until"]


@pytest.mark.parametrize("form", FORMS)
def test_all_through_the_gateway_is_exit_code_0(stage: Stage, form: str) -> None:
    until = stage.reconcile(stage.log(form), code=1)["unmatched"][0]["at"]
    before = (datetime.fromisoformat(until) - timedelta(milliseconds=1)).isoformat()
    found = stage.reconcile(stage.log(form), code=0, until=before)
    assert found["unmatched"] == [] and found["matched"] > 5


@pytest.mark.parametrize("form", FORMS)
def test_nothing_compared_is_no_answer(stage: Stage, tmp_path: Path, form: str) -> None:
    """Exit code 2 with a cause and a cure, and the document all the same."""

    def refused(log: Path, **given: str) -> str:
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        words += ["--log", str(log), "--prefix", PREFIX, "--data", str(stage.gateway.data)]
        done = command("audit", "reconcile", *words, "-o", "json")
        assert done.returncode == 2, done.stderr
        assert json.loads(done.stdout)["unmatched"] == []
        assert "nothing was compared" in done.stderr and "  next: " in done.stderr
        return done.stderr

    whole = stage.log(form)
    empty = tmp_path / whole.name
    empty.write_text("")
    assert "is empty" in refused(empty)
    # The log has much, and nothing of it is of that time.
    assert "in the interval" in refused(whole, since="2099-01-01")
    assert "in the interval" in refused(whole, since="1999-01-01", until="1999-01-02")
    # Only what a server says of itself, as one that logs no statements does.
    own = [line for line in whole.read_text().splitlines(keepends=True) if "listening on" in line]
    empty.write_text("".join(own))
    assert own and "log_statement=all" in refused(empty, since="1999-01-01")
    told = refused(empty, since="1999-01-01", target="nowhere")
    assert "0 logins on the target nowhere" in told


@pytest.mark.parametrize("form", FORMS)
def test_a_log_that_begins_and_ends_in_mid_session(
    server: PostgresServer, tmp_path: Path, form: str
) -> None:
    """The link was there before the log began, and is when it ends; so is one past the gateway."""
    gateway = start(tmp_path / "data", server, database="postgres")
    direct = psycopg.connect(server.url(), autocommit=True)
    link = psycopg.connect(gateway.dsn("postgres"), autocommit=True)
    path = logged(server) / FORMS[form]
    settled(server, f"it begins here: {form}")
    start_at = path.stat().st_size
    link.execute("select 'ours, in the middle'")
    direct.execute("select 'theirs, in the middle'")
    settled(server, f"it ends here: {form}")
    cut = tmp_path / FORMS[form]
    cut.write_bytes(path.read_bytes()[start_at:])
    stage = Stage(gateway, server, tmp_path)
    found = stage.reconcile(cut, code=1)
    assert texts(found)[0] == "select 'theirs, in the middle'"
    assert all("ours" not in one for one in texts(found)) and found["matched"] == 1
    link.close()
    direct.close()
    assert gateway.stop() == 0


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_that_differ(stage: Stage, tmp_path: Path, hours: int) -> None:
    """The server's clock an hour off: its log says so, in all times and session ids."""
    moved = tmp_path / "moved.log"
    text = stage.log("stderr").read_text()

    def shifted(found: re.Match[str]) -> str:
        at = time.strptime(found[1], "%Y-%m-%d %H:%M:%S")
        seconds = time.mktime(at) + 3600 * hours
        began = int(found[4], 16) + 3600 * hours
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
        return f"{stamp}{found[2]} [{found[3]}] {began:x}."

    assert any(json.loads(line)["backend_type"] == "parallel worker"
               for line in stage.log("jsonlog").read_text().splitlines())  # fmt: skip
    pattern = r"^([\d-]+ [\d:]+)(\.\d+ \w+) \[(\d+)\] ([0-9a-f]+)\."
    moved.write_text(re.sub(pattern, shifted, text, flags=re.M))
    found = stage.reconcile(moved, code=1)
    assert [one for one in texts(found) if "past the gateway" in one]
    assert all("'after it'" not in one and "simple" not in one for one in texts(found))
    assert abs(found["clock_difference"] + 3600 * hours) < 2


@pytest.mark.parametrize("setting", ["%m [%p] ", "%t [%p] ", "%m [%p] %s "])
def test_prefixes_that_tell_less(stage: Stage, tmp_path: Path, setting: str) -> None:
    """The server's own default, whole seconds, and with the start of the backend."""
    pattern = Prefix.parse(PREFIX).pattern
    out = tmp_path / "less.log"
    with out.open("w") as log:
        for line in stage.log("stderr").read_text().splitlines():
            found = pattern.fullmatch(line)
            if found is not None:
                began = time.strftime(
                    "%Y-%m-%d %H:%M:%S", time.gmtime(int(found["c"].split(".")[0], 16))
                )
                told = {"%m": found["m"], "%t": found["m"][:19] + found["m"][23:], "%p": found["p"],
                        "%s": f"{began} UTC"}  # fmt: skip
                head = setting
                for escape, value in told.items():
                    head = head.replace(escape, value)
                line = f"{head}{found['severity']}:  {found['message']}"
            log.write(line + "\n")
    less = stage.reconcile(out, code=1, prefix=setting)
    full = stage.reconcile(stage.log("jsonlog"), code=1)
    # A parallel worker is not known as one: it tells the statement of its error.
    extra = [one for one in texts(less) if one not in texts(full)]
    assert set(extra) <= {"select sum(1 / (id - 500)) from many"}
    assert [one for one in texts(less) if one not in extra] == texts(full)


def test_a_process_id_that_was_used_again(stage: Stage, tmp_path: Path) -> None:
    """A direct backend that has the gateway's process id, at another time."""
    lines = stage.log("jsonlog").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    ours = next(one for one in rows if "'after it'" in one["message"])
    again = dict(ours, message="statement: select 'the same process id'")
    again["session_start"] = "2031-01-01 00:00:00 UTC"
    again["timestamp"] = "2031-01-01 00:00:01.000 UTC"
    log = tmp_path / "again.json"
    log.write_text("".join(f"{line}\n" for line in [*lines, json.dumps(again)]))
    assert texts(stage.reconcile(log, code=1))[-1] == "select 'the same process id'"


def test_an_application_name_is_no_proof(stage: Stage, tmp_path: Path) -> None:
    """Whoever connects past the gateway may call himself by the id of a session."""
    env = {**os.environ, "PGPASSWORD": stage.server.password, "PGAPPNAME": session_of(stage)}
    where = ["-h", "127.0.0.1", "-p", str(stage.server.port), "-U", "postgres"]
    forged = ["psql", *where, "-c", "select 'forged'"]
    subprocess.run(forged, env=env, check=True, capture_output=True)
    settled(stage.server, "forged and logged")
    for name in FORMS.values():
        found = stage.reconcile(logged(stage.server) / name, code=1)
        assert "select 'forged'" in texts(found)


def session_of(stage: Stage) -> str:
    done = command("sessions", "list", "--data", str(stage.gateway.data), "-o", "json")
    return str(json.loads(done.stdout)[0]["id"])


def test_rotated_and_compressed_files_are_one_log(stage: Stage, tmp_path: Path) -> None:
    whole = stage.log("csvlog").read_bytes()
    middle = whole.index(b"past the gateway")
    cut = whole.rindex(b"\n2", 0, middle) + 1
    first, second = tmp_path / "1.csv.gz", tmp_path / "2.csv"
    first.write_bytes(gzip.compress(whole[:cut]))
    second.write_bytes(whole[cut:])
    parts = stage.reconcile(first, second, code=1)
    one = stage.reconcile(stage.log("csvlog"), code=1)
    assert texts(parts) == texts(one) and parts["matched"] == one["matched"]


def test_what_cannot_be_read_is_named_with_its_cure(stage: Stage, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = command("audit", "reconcile", "--data", str(stage.gateway.data), *arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    log = str(stage.log("stderr"))
    assert "must tell the time" in refused("--log", log, "--prefix", "%u ")
    assert "is no escape" in refused("--log", log, "--prefix", "%m %p %z ")
    assert "no time zone" in refused("--log", log, "--timezone", "Europe/Nowhere")
    assert "No such file" in refused("--log", str(tmp_path / "none"))
    foreign = tmp_path / "foreign.log"
    foreign.write_text(stage.log("stderr").read_text().replace(" UTC ", " CET "))
    foreign.write_text(foreign.read_text().replace(" GMT ", " CET "))
    assert "--timezone" in refused("--log", str(foreign), "--prefix", PREFIX)
