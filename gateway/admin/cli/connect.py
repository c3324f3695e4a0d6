# SPDX-License-Identifier: GPL-3.0-or-later
"""Open a target with its native client, by the token at hand."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

from gateway.admin.cli._authority import Authority
from gateway.admin.cli._clients import clients, named
from gateway.admin.cli._isolating import be_undumpable
from gateway.admin.cli._processes import followed, say, signals_held, spawned
from gateway.admin.cli.childs_world import child_environment
from gateway.admin.cli.client import gateway_for
from gateway.admin.cli.options import data_option
from gateway.admin.cli.output import Failed

LIFETIME = 86400.0
OWN_FAILURE = 125


class Connect(click.Command):
    """A mistake in our own options is our failure, not the client's."""

    def make_context(self, *given: object, **extra: object) -> click.Context:
        try:
            return super().make_context(*given, **extra)  # type: ignore[arg-type]
        except click.UsageError as error:
            error.exit_code = OWN_FAILURE  # type: ignore[misc]
            raise


@click.command(
    cls=Connect,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  trailgate connect orders
  trailgate connect orders -c 'select 1'

\b
PostgreSQL: psql; what follows the target's name is psql's. Exit code: the client's; 128+N if signal
N ended it; 125 if trailgate failed; 126 the client is not executable; 127 not found.""",
)
@click.option("--group", "groups", multiple=True, help="A group of the local user (with --data).")
@data_option
@click.argument("target")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def connect(
    groups: tuple[str, ...], data: Path | None, target: str, arguments: tuple[str, ...]
) -> None:
    """Open TARGET with its native client; ARGUMENTS are the client's own."""
    try:
        be_undumpable()
        code = _connect(Authority(gateway_for(data), groups, LIFETIME), target, arguments)
    except Failed as failed:
        failed.exit_code = OWN_FAILURE  # type: ignore[misc]
        raise
    sys.exit(code)


def _connect(authority: Authority, name: str, arguments: tuple[str, ...]) -> int:
    folder = Path(tempfile.mkdtemp(prefix="trailgate-connect-"))
    try:
        token = authority.token()
        own = authority.own(token)
        client = clients().get(named(own["targets"], name)["protocol"])
        if client is None:
            raise Failed(f"there is no client for {name}", "trailgate run --as NAME -- COMMAND")
        env = child_environment(
            os.environ,
            parent_tokens=[token],
            token=token,
            own=own,
            target=name,
            folder=folder,
            fallback_url=authority.gateway.place.shown,
        )
        with signals_held() as before:
            return followed(spawned([client.program, *arguments], env, before))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _end(authority)


def _end(authority: Authority) -> None:
    try:
        authority.end()
    except Failed as failed:
        say(f"the grant made for this was not ended ({failed.message}); it expires by itself")


COMMAND = connect
