# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate run`: what a child gets, what it cannot get at, and how its grant ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

TELL = """
import json, os, stat
files = {name: os.environ[name] for name in ("PGPASSFILE", "PGSSLROOTCERT") if name in os.environ}
print(json.dumps({
    "env": dict(os.environ), "pid": os.getpid(), "parent": os.getppid(),
    "modes": {name: oct(stat.S_IMODE(os.stat(path).st_mode)) for name, path in files.items()},
    "folder": oct(stat.S_IMODE(os.stat(os.path.dirname(files["PGPASSFILE"])).st_mode)),
    "pgpass": open(files["PGPASSFILE"]).read(),
}), flush=True)
"""
WAIT = TELL + "import time\ntime.sleep(300)\n"
ECHO_SIGNALS = """
import os, signal, sys
def say(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")  # print is not reentrant
    if number == signal.SIGTERM:
        sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, say)
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""
PEEK = """
import os
for what in ("environ", "mem"):
    try:
        open(f"/proc/{os.getppid()}/{what}", "rb").close()
        print(what, "readable")
    except PermissionError:
        print(what, "refused")
"""


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def run(*words: str) -> list[str]:
    return [sys.executable, "-m", "gateway", "run", *words]


@contextmanager
def started(api: Any, token: str, words: list[str], **more: str) -> Iterator[subprocess.Popen[str]]:
    """A command at work in a process group of its own, all of which ends with the block."""
    process = subprocess.Popen(
        words,
        env=api.environment(TRAILGATE_TOKEN=token, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            assert process.poll() is not None
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def told(api: Any, token: str, *words: str, script: str = TELL, **more: str) -> dict[str, Any]:
    answer = api.run("run", *words, "--", *python(script), TRAILGATE_TOKEN=token, **more)
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def until(condition: Any, seconds: float = 40.0) -> None:
    """Poll; the time is only there so that a fault ends the test."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came to be"
        time.sleep(0.1)


def test_the_child_gets_its_own_token_and_nothing_of_its_parents(api: Any) -> None:
    token = api.sign("alice")
    child = told(
        api,
        token,
        "--as",
        "reader",
        PGPASSWORD="hunter2",
        PGHOST="db1.prod",
        PGSERVICE="prod",
        PGSSLKEY="/etc/key",
        MY_COPY=f"Bearer {token}",
        KEPT="yes",
    )
    env = child["env"]
    assert env["TRAILGATE_TOKEN"].startswith("tg_")
    assert token not in json.dumps(child)
    assert env["KEPT"] == "yes"
    for gone in ("PGPASSWORD", "PGSERVICE", "PGSSLKEY", "MY_COPY", "TRAILGATE_TOKEN_FILE"):
        assert gone not in env
    assert env["TRAILGATE_URL"] == api.url


def test_libpqs_settings_are_ready_made_and_private(api: Any) -> None:
    child = told(api, api.sign("alice"), "--as", "reader")
    env = child["env"]
    settings = {name: value for name, value in env.items() if name.startswith("PG")}
    assert set(settings) == {
        "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT", "PGPASSFILE",
    }  # fmt: skip
    assert (env["PGHOST"], env["PGPORT"]) == ("127.0.0.1", "15501")
    assert (env["PGUSER"], env["PGDATABASE"]) == ("app", "shop")
    assert env["PGSSLMODE"] == "verify-full"
    assert env["PGSSLROOTCERT"] == env["TRAILGATE_CA_PATH"]
    assert child["modes"] == {"PGPASSFILE": "0o600", "PGSSLROOTCERT": "0o600"}
    assert child["folder"] == "0o700"
    assert child["pgpass"] == f"127.0.0.1:15501:*:*:{env['TRAILGATE_TOKEN']}\n"


def test_grant_and_files_are_gone_when_the_command_has_ended(api: Any) -> None:
    child = told(api, api.sign("alice"), "--as", "reader")
    assert not api.active(child["env"]["TRAILGATE_TOKEN"])
    assert not Path(child["env"]["PGPASSFILE"]).parent.exists()


def test_nesting_nests_the_chain_and_the_outer_ends_the_inner(api: Any) -> None:
    inner = run("--as", "reader", "--scope", "orders", "--", *python(WAIT))
    with started(api, api.sign("alice"), run("--as", "lead", "--", *inner)) as process:
        token = json.loads(line(process))["env"]["TRAILGATE_TOKEN"]
        own = api.get("/api/v1/self", token).json()
        assert own["chain"] == ["alice", "lead", "reader"]
        process.terminate()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert not api.active(token)


@pytest.mark.parametrize(
    ("script", "code"),
    [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 128 + 9), ("", 0)],
)
def test_the_exit_code_is_the_commands(api: Any, script: str, code: int) -> None:
    words = ("run", "--as", "a", "--", *python(script))
    assert api.run(*words, TRAILGATE_TOKEN=api.sign("alice")).returncode == code


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--as", "a", "--", "/no/such/command"), 127, "not found"),
        (("--as", "a", "--", "/etc/passwd"), 126, "Permission denied"),
        (("--as", "A!", "--", "true"), 125, "agent_name must match"),
        (("--as", "a", "--target", "none", "--", "true"), 125, "the target is one of: orders"),
        (("--as", "a", "--expires", "x", "--", "true"), 125, "write 90s"),
        (("--as", "a"), 125, "COMMAND"),
        (("--", "true"), 125, "--as"),
    ],
)
def test_our_own_failures_have_their_own_codes(
    api: Any, words: tuple[str, ...], code: int, says: str
) -> None:
    answer = api.run("run", *words, TRAILGATE_TOKEN=api.sign("coder"))
    assert (answer.returncode, answer.stdout) == (code, "")
    assert says in answer.stderr and "Traceback" not in answer.stderr


# --- isolation -----------------------------------------------------------------------------------

APART = """
import json, os, sys
def tried(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
status = dict(line.split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "seen": sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()),
    "no_new_privs": status["NoNewPrivs"].strip(), "home": os.environ.get("HOME"),
    "pgpass": open(os.environ["PGPASSFILE"]).read(), "ca": open(os.environ["PGSSLROOTCERT"]).read(),
    "mode": oct(os.stat(os.environ["PGPASSFILE"]).st_mode & 0o777),
    "token": os.environ["TRAILGATE_TOKEN"],
    "signal_runs": [tried(lambda: os.kill(int(pid), 0)) for pid in sys.argv[1:]],
    "read_runs": [tried(lambda: open(f"/proc/{pid}/environ").close()) for pid in sys.argv[1:]],
}), flush=True)
"""


EVERYBODYS = "/usr/bin/python3"
"""An interpreter that another user may execute; the tests' own may lie in a home."""


def apart(api: Any, *words: str, **more: str) -> dict[str, Any]:
    """What a command kept apart sees; its arguments are the processes that started it."""
    # The shell becomes `run`, so $$ is its process id.
    command = ["sh", "-c", 'exec "$0" "$@" -c "$SCRIPT" $$ $PPID', *run(*words, "--")]
    answer = subprocess.run(
        [*command, EVERYBODYS],
        env=api.environment(TRAILGATE_TOKEN=api.sign("alice"), SCRIPT=APART, **more),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def namespaces() -> bool:
    tried = subprocess.run(
        ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True,
    )
    return tried.returncode == 0


in_namespaces = pytest.mark.skipif(not namespaces(), reason="no user namespaces on this machine")
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(EVERYBODYS, os.X_OK),
    reason=f"only root may start another user's process, and {EVERYBODYS} is what it starts",
)


@in_namespaces
def test_in_a_namespace_it_sees_no_process_but_its_own(api: Any) -> None:
    seen = apart(api, "--as", "reader", "--isolate", "namespace")
    assert seen["pid"] == 2 and seen["seen"] == [1, 2]
    assert (seen["uid"], seen["no_new_privs"]) == (os.geteuid(), "1")
    assert set(seen["read_runs"]) == {"FileNotFoundError"}
    assert set(seen["signal_runs"]) == {"ProcessLookupError"}
    assert seen["token"] in seen["pgpass"] and seen["mode"] == "0o600"
    assert not api.active(seen["token"])


@as_root
def test_as_root_it_gets_a_user_of_its_own_that_reads_its_files_and_no_others(
    api: Any, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    ca.chmod(0o600)
    one = apart(api, "--as", "reader", "--isolate", "uid", TRAILGATE_CA_PATH=str(ca))
    two = apart(api, "--as", "reader", "--isolate", "uid", TRAILGATE_CA_PATH=str(ca))
    for seen in (one, two):
        assert seen["uid"] == seen["gid"] > 60_000 and seen["groups"] == []
        assert seen["no_new_privs"] == "1"
        assert set(seen["read_runs"]) == {"PermissionError"}
        assert set(seen["signal_runs"]) == {"PermissionError"}
        assert seen["token"] in seen["pgpass"] and seen["mode"] == "0o600"
        assert seen["ca"] == ca.read_text()
        assert not Path(seen["home"]).exists()
    assert one["uid"] != two["uid"]


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv makes another user")
@as_root
def test_only_root_may_give_another_user(api: Any) -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    probe = subprocess.run([*nobody, *python("import gateway")], capture_output=True)
    if probe.returncode:
        pytest.skip("this checkout cannot be read by another user")
    words = [*nobody, *run("--as", "a", "--isolate", "uid", "--", "true")]
    env = api.environment(TRAILGATE_TOKEN=api.sign("a"))
    answer = subprocess.run(words, env=env, capture_output=True, text=True)
    assert answer.returncode == 125 and "use --isolate namespace" in answer.stderr


@in_namespaces
@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
        # An orphan outlives its parent, and not the command.
        ("import os, time\nif os.fork() == 0:\n    if os.fork() == 0: time.sleep(600)\n", 0),
    ],
)
def test_the_exit_code_comes_out_of_a_namespace(api: Any, script: str, code: int) -> None:
    words = ("run", "--as", "a", "--isolate", "namespace", "--", *python(script))
    assert api.run(*words, TRAILGATE_TOKEN=api.sign("alice")).returncode == code


@in_namespaces
@pytest.mark.parametrize(("command", "code"), [("/no/such", 127), ("/etc/passwd", 126)])
def test_what_cannot_be_executed_says_so_out_of_a_namespace(
    api: Any, command: str, code: int
) -> None:
    words = ("run", "--as", "a", "--isolate", "namespace", "--", command)
    answer = api.run(*words, TRAILGATE_TOKEN=api.sign("alice"))
    assert answer.returncode == code and f"trailgate: {command}: " in answer.stderr


@in_namespaces
def test_signals_reach_into_a_namespace(api: Any) -> None:
    words = run("--as", "a", "--isolate", "namespace", "--", *python(ECHO_SIGNALS))
    with started(api, api.sign("a"), words) as process:
        assert line(process) == "ready"
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
            process.send_signal(number)
            assert line(process) == number.name
        assert process.wait(timeout=30) == 7


@pytest.mark.parametrize(
    "asked", [pytest.param("uid", marks=as_root), pytest.param("namespace", marks=in_namespaces)]
)
def test_how_it_was_kept_apart_stands_in_the_grant(api: Any, asked: str) -> None:
    words = run("--as", "reader", "--isolate", asked, "--", EVERYBODYS, "-c", WAIT)
    with started(api, api.sign("isolated"), words) as process:
        token = json.loads(line(process))["env"]["TRAILGATE_TOKEN"]
        (seen,) = api.get("/api/v1/grants", token).json()
        assert seen["isolation"] == asked


def test_a_failure_leaves_no_grant_behind(api: Any) -> None:
    token = api.sign("tidy")
    api.run("run", "--as", "a", "--", "/no/such/command", TRAILGATE_TOKEN=token)
    api.run("run", "--as", "a", "--target", "none", "--", "true", TRAILGATE_TOKEN=token)
    (top,) = api.get("/api/v1/grants", token).json()
    assert [child["state"] for child in top["children"]] == ["ended", "ended"]


def test_signals_are_passed_on(api: Any) -> None:
    with started(api, api.sign("a"), run("--as", "a", "--", *python(ECHO_SIGNALS))) as process:
        assert line(process) == "ready"
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
            process.send_signal(number)
            assert line(process) == number.name
        assert process.wait(timeout=30) == 7


def test_a_run_whose_parent_ignores_its_children_still_sees_its_own_end(api: Any) -> None:
    ignoring = "import os, signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    words = run("--as", "a", "--", *python("raise SystemExit(5)"))
    with started(api, api.sign("a"), python(f"{ignoring}os.execv({words[0]!r}, {words})")) as end:
        assert end.wait(timeout=60) == 5


def test_the_lease_is_renewed_while_it_runs_and_lapses_when_it_is_killed(brief: Any) -> None:
    token = brief.sign("killed")
    inner = run("--as", "reader", "--", *python(WAIT))
    with started(brief, token, run("--as", "lead", "--", *inner)) as process:
        below = json.loads(line(process))["env"]["TRAILGATE_TOKEN"]

        def lead() -> dict[str, Any]:
            (top,) = brief.get("/api/v1/grants", token).json()
            return dict(top["children"][0])

        ends_at = lead()["lease_until"]
        until(lambda: renewed_past(lead()["lease_until"], ends_at, seconds=6))
        assert brief.active(below)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not brief.active(below))
        until(lambda: lead()["ended"])
        seen = lead()
        assert seen["state"] == "lapsed" and seen["revoked"] is seen["revoked_by"] is None
        assert [one["state"] for one in seen["children"]] == ["lapsed"]
        told = brief.get("/api/v1/self", below)
        assert told.status_code == 401 and "lease" in told.json()["detail"]
        assert "revoked" not in told.json()["detail"]
        assert brief.active(token)


def renewed_past(now: str, first: str, seconds: float) -> bool:
    moved = datetime.fromisoformat(now) - datetime.fromisoformat(first)
    return moved.total_seconds() > seconds


def test_a_revoked_parent_takes_the_running_child_with_it(brief: Any) -> None:
    lead = brief.exchange(brief.sign("taker"), agent_name="lead")
    words = run("--as", "reader", "--", *python(WAIT))
    with started(brief, lead["access_token"], words) as process:
        below = json.loads(line(process))["env"]["TRAILGATE_TOKEN"]
        brief.admin.delete(f"/api/v1/grants/{lead['grant']}")
        assert not brief.active(below)


def test_no_token_is_in_a_process_list(api: Any) -> None:
    token = api.sign("listed")
    with started(api, token, run("--as", "a", "--", *python(WAIT))) as process:
        child = json.loads(line(process))
        lists = [
            Path(f"/proc/{pid}/cmdline").read_text()
            for pid in (process.pid, child["pid"], child["parent"])
        ]
        assert all(lists)
        for secret in (token, child["env"]["TRAILGATE_TOKEN"]):
            assert secret not in "".join(lists)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv takes root's powers away")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has powers to be taken away")
def test_a_child_of_the_same_user_cannot_read_its_parents_token(api: Any) -> None:
    """Without CAP_SYS_PTRACE root is a user like others to /proc."""
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    with started(api, api.sign("a"), [*bare, *run("--as", "a", "--", *python(PEEK))]) as process:
        output, _ = process.communicate(timeout=60)
    assert output.split("\n") == ["environ refused", "mem refused", ""]
    # The same look at an ordinary parent succeeds, so it was `run` that kept the child out.
    ordinary = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PEEK!r}])"
    answer = subprocess.run([*bare, *python(ordinary)], capture_output=True, text=True)
    assert answer.stdout.startswith("environ readable\n")


def test_by_the_data_folder_the_root_made_for_it_ends_as_well(api: Any) -> None:
    env = api.environment()
    words = [*run("--as", "a", "--data", str(api.data), "--", *python(TELL))]
    answer = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    child = json.loads(answer.stdout)
    assert "TRAILGATE_DATA" not in child["env"]
    assert not api.active(child["env"]["TRAILGATE_TOKEN"])
    tops = api.admin.get("/api/v1/grants").json()
    mine = [top for top in tops if top["issuer"] == "trailgate:local"]
    assert mine and all(top["state"] == "ended" for top in mine)


def test_a_place_that_an_outer_run_set_is_kept(api: Any) -> None:
    place = {"PGHOST": "127.0.0.1", "PGPORT": "15501", "PGUSER": "app2"}
    child = told(api, api.sign("a"), "--as", "b", **place)
    assert child["env"]["PGHOST"] == "127.0.0.1"
    assert child["env"]["PGUSER"] == "app"
