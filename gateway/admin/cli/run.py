# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command as a nested agent, with a token of its own and nothing of yours.

The child's grant is a lease on yours: it ends with the command, or within a minute of this process.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gateway.admin.cli._isolating import CHOICES, Isolation, be_undumpable, isolation
from gateway.admin.cli._processes import followed, say, signals_held, spawned
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
  trailgate run --as reader --isolate namespace -- python agent.py

\b
The command finds TRAILGATE_TOKEN, TRAILGATE_URL, TRAILGATE_CA_PATH and, for a PostgreSQL target,
PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGPASSFILE. Your own token, PGPASSWORD
and PGSERVICE are not passed on. Exit code: the command's; 128+N if signal N ended it; 125 if
trailgate failed; 126 not executable; 127 not found.""",
)
@click.option("--as", "name", required=True, metavar="NAME", help="The agent's name.")
@click.option("--target", metavar="TARGET", help="Set up native clients for this target.")
@click.option(
    "--isolate",
    type=click.Choice(CHOICES),
    help="Keep the command apart: uid (as root: a user of its own), namespace (it sees no process"
    " but its own).",
)
@narrowing_options
@data_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    name: str,
    target: str | None,
    isolate: str | None,
    allow: str | None,
    scope: tuple[str, ...],
    expires: str | None,
    data: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND as agent NAME, with a narrower token of its own."""
    try:
        be_undumpable()
        apart = isolation(isolate)
        apart.check(command)
        gateway = gateway_for(data)
        with leased(gateway, name, Narrowing(allow, scope, expires), apart.name) as lease:
            code = _run_child(lease, command, target, apart)
    except Failed as failed:
        failed.exit_code = OWN_FAILURE  # type: ignore[misc]
        raise
    sys.exit(code)


@dataclass(frozen=True, slots=True)
class Lease:
    """A child's grant while this process keeps it alive."""

    gateway: Gateway
    """Called with the parent's authority."""
    parent: str
    child: Mapping[str, Any]
    top: str
    """What ends with the command: the child's grant, or the root that was minted for it."""


@contextmanager
def leased(
    gateway: Gateway, name: str, narrowing: Narrowing, isolated: str = "none"
) -> Iterator[Lease]:
    """Exchange the parent's token; what was given ends with the context."""
    parent, top = gateway.token(), ""
    if parent is None:
        root = local_root(gateway, (), ROOT_LIFETIME)
        parent, top = root["token"], root["grant"]
    asked = {"lease": str(LEASE_SECONDS), "isolation": isolated}
    child = exchange(gateway, parent, name, narrowing, **asked)
    lease = Lease(gateway, parent, child, top or child["grant"])
    try:
        yield lease
    finally:
        _end(lease)


def _end(lease: Lease) -> None:
    try:
        lease.gateway.call("DELETE", f"/api/v1/grants/{lease.top}?as=ended")
    except Failed as failed:
        if status_of(failed) != 404:
            say(f"the agent's grant was not ended ({failed.message}); its lease lapses by itself")


def _run_child(lease: Lease, command: tuple[str, ...], target: str | None, apart: Isolation) -> int:
    folder = Path(tempfile.mkdtemp(prefix="trailgate-run-"))
    ended = threading.Event()
    try:
        with signals_held() as before:
            env = _environment(lease, target, folder, apart)
            apart.give(folder)
            child = spawned(apart.command(command), env, before, **apart.arguments())
            threading.Thread(target=_renew, args=(lease, ended), daemon=True).start()
            return followed(child)
    finally:
        ended.set()
        shutil.rmtree(folder, ignore_errors=True)


def _environment(
    lease: Lease, target: str | None, folder: Path, apart: Isolation
) -> dict[str, str]:
    token = lease.child["access_token"]
    theirs = lease.gateway.with_token(token)
    own = theirs.call("GET", "/api/v1/self")
    theirs.close()
    given = lease.gateway.token()
    env = child_environment(
        os.environ,
        parent_tokens=[secret for secret in (lease.parent, given) if secret],
        token=token,
        own=own,
        target=target,
        folder=folder,
        fallback_url=lease.gateway.place.shown,
        foreign=apart.user is not None,
    )
    return apart.environment(env, folder)


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
                say(f"the agent has no grant any more: {failed.message}")
                return
            if failed.message != said:
                say(f"the agent's grant was not renewed: {failed.message}")
            # Tried again even after a 401: the file that holds the parent's token is renewed too.
            pause, said = min(every, RETRY_EVERY), failed.message


COMMAND = run
