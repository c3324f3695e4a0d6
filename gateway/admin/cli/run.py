# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command as a nested agent, with a token of its own and nothing of yours.

The child's grant is a lease on yours: it ends with the command, or within a minute of this process.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from gateway.admin.cli.childs_world import child_environment
from gateway.admin.cli.client import Gateway, gateway_for, status_of
from gateway.admin.cli.delegate import Narrowing, exchange, local_root, narrowing_options
from gateway.admin.cli.options import data_option
from gateway.admin.cli.output import Failed

LEASE_SECONDS = 60
RENEWALS = 3
"""In the time of a lease, so that one may fail."""
RETRY_EVERY = 5.0
ROOT_LIFETIME = 86400.0
OWN_FAILURE = 125
"""As env and timeout have it: the command's own exit codes stay apart from ours."""
PR_SET_DUMPABLE = 4
PASSED_ON = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
}


class Run(click.Command):
    """A mistake in our own options is our failure, not the command's."""

    def make_context(self, *given: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*given, **extra)
        except click.UsageError as error:
            error.exit_code = OWN_FAILURE  # type: ignore[misc]
            raise


@click.command(
    cls=Run,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  trailgate run --as reader --scope orders -- psql -c 'select 1'
  trailgate run --as lead -- trailgate run --as reader -- python agent.py

\b
The command finds TRAILGATE_TOKEN, TRAILGATE_URL, TRAILGATE_CA_PATH and, for a PostgreSQL target,
PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGPASSFILE. Your own token, PGPASSWORD
and PGSERVICE are not passed on. Exit code: the command's; 128+N if signal N ended it; 125 if
trailgate failed; 126 not executable; 127 not found.""",
)
@click.option("--as", "name", required=True, metavar="NAME", help="The agent's name.")
@click.option("--target", metavar="TARGET", help="Set up native clients for this target.")
@narrowing_options
@data_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    name: str,
    target: str | None,
    allow: str | None,
    scope: tuple[str, ...],
    expires: str | None,
    data: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND as agent NAME, with a narrower token of its own."""
    try:
        be_undumpable()
        gateway = gateway_for(data)
        with leased(gateway, name, Narrowing(allow, scope, expires)) as lease:
            code = _run_child(lease, command, target)
    except Failed as failed:
        failed.exit_code = OWN_FAILURE  # type: ignore[misc]
        raise
    sys.exit(code)


def be_undumpable() -> None:
    """No process of this user may read this one's memory or environment: they hold its token.

    Lasts until exec, so this process stays the command's parent and does not become it.
    """
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise Failed(f"prctl failed: {os.strerror(ctypes.get_errno())}", "run on Linux proper")


@dataclass(frozen=True, slots=True)
class Lease:
    """A child's grant while this process keeps it alive."""

    gateway: Gateway
    """Called with the parent's authority."""
    parent: str
    child: Mapping[str, Any]
    top: str
    """What to revoke at the end: the child's grant, or the root that was minted for it."""


@contextmanager
def leased(gateway: Gateway, name: str, narrowing: Narrowing) -> Iterator[Lease]:
    """Exchange the parent's token; at the end revoke what was given."""
    parent, top = gateway.token(), ""
    if parent is None:
        root = local_root(gateway, (), ROOT_LIFETIME)
        parent, top = root["token"], root["grant"]
    child = exchange(gateway, parent, name, narrowing, lease=str(LEASE_SECONDS))
    lease = Lease(gateway, parent, child, top or child["grant"])
    try:
        yield lease
    finally:
        _revoke(lease)


def _revoke(lease: Lease) -> None:
    try:
        lease.gateway.call("DELETE", f"/api/v1/grants/{lease.top}")
    except Failed as failed:
        if status_of(failed) != 404:
            _say(
                f"the agent's grant was not revoked ({failed.message}); its lease lapses by itself"
            )


def _run_child(lease: Lease, command: tuple[str, ...], target: str | None) -> int:
    # Blocked before any thread starts, so that each inherits it and sigwaitinfo gets them all.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children would vanish unannounced
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})
    folder = Path(tempfile.mkdtemp(prefix="trailgate-run-"))
    ended = threading.Event()
    try:
        child = _spawn(command, _environment(lease, target, folder), before)
        renewing = threading.Thread(target=_renew, args=(lease, ended), daemon=True)
        renewing.start()
        return _wait(child)
    finally:
        ended.set()
        shutil.rmtree(folder, ignore_errors=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment(lease: Lease, target: str | None, folder: Path) -> dict[str, str]:
    token = lease.child["access_token"]
    theirs = lease.gateway.with_token(token)
    own = theirs.call("GET", "/api/v1/self")
    theirs.close()
    given = lease.gateway.token()
    return child_environment(
        os.environ,
        parent_tokens=[secret for secret in (lease.parent, given) if secret],
        token=token,
        own=own,
        target=target,
        folder=folder,
        fallback_url=lease.gateway.place.shown,
    )


def _spawn(
    command: tuple[str, ...], env: dict[str, str], mask: set[int | signal.Signals]
) -> subprocess.Popen[bytes]:
    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        return subprocess.Popen(command, env=env, preexec_fn=unblock)
    except FileNotFoundError:
        _exit(127, f"{command[0]}: not found")
    except OSError as error:
        _exit(126, f"{command[0]}: {error.strerror}")


def _exit(code: int, message: str) -> NoReturn:
    _say(message)
    raise SystemExit(code)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Pass signals on until the child ends; its exit code as a shell gives it."""
    while child.poll() is None:
        arrived = signal.sigwaitinfo(PASSED_ON | {signal.SIGCHLD})
        # What the terminal sends (si_code above 0) went to the whole group: the child has it.
        if arrived.si_signo != signal.SIGCHLD and arrived.si_code <= 0:
            child.send_signal(arrived.si_signo)
    code = child.returncode
    return code if code >= 0 else 128 - code


def _renew(lease: Lease, ended: threading.Event) -> None:
    """Keep the grant alive with the parent's authority until the command ends."""
    path = f"/api/v1/grants/{lease.child['grant']}/lease"
    every = lease.child["lease_seconds"] / RENEWALS  # the gateway may give less than was asked
    pause, said = every, ""
    while not ended.wait(pause):
        try:
            lease.gateway.call("POST", path, json={"seconds": LEASE_SECONDS})
            pause, said = every, ""
        except Failed as failed:
            if status_of(failed) in (404, 409):
                _say(f"the agent's grant has ended: {failed.message}")
                return
            if failed.message != said:
                _say(f"the agent's grant was not renewed: {failed.message}")
            # Tried again even after a 401: the file that holds the parent's token is renewed too.
            pause, said = min(every, RETRY_EVERY), failed.message


def _say(message: str) -> None:
    click.echo(f"trailgate: {message}", err=True)


COMMAND = run
