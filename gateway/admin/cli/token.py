# SPDX-License-Identifier: GPL-3.0-or-later
"""Get a token: for the local user, or a narrower one for an agent.

A child of the token in TRAILGATE_TOKEN (or _FILE) if there is one, else a new root by --data.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from gateway.admin.cli._credential_formats import FORMATS
from gateway.admin.cli.client import Gateway, gateway_for, seconds
from gateway.admin.cli.delegate import Narrowing, exchange, local_root, narrowing_options
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import Failed, print_json, table

DEFAULT_LIFETIME = 3600.0


@click.command(
    epilog="""\b
Examples:
  trailgate token --data ./data --expires 8h
  trailgate token --as reader --scope orders --expires 15m -o json
  trailgate token --as reader --format exec-credential

Exit codes: 0 done, 1 refused, 2 could not be done."""
)
@click.option("--as", "name", metavar="NAME", help="The agent that the token is for.")
@click.option("--group", "groups", multiple=True, help="A group of the new root (with --data).")
@click.option("--file", type=click.Path(path_type=Path), help="Write the token there too (0600).")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Print what a client reads from a program that gives it credentials.",
)
@narrowing_options
@data_option
@output_option("table", "json")
def token(
    name: str | None,
    groups: tuple[str, ...],
    file: Path | None,
    form: str | None,
    allow: str | None,
    scope: tuple[str, ...],
    expires: str | None,
    data: Path | None,
    output: str,
) -> None:
    """Get a token for the local user, or a narrower one for an agent."""
    gateway = gateway_for(data)
    asked = Narrowing(allow, scope, expires)
    if form is not None and name is None and gateway.token() is not None and not groups:
        document = own_token(gateway, asked)
    else:
        document = _token(gateway, name, groups, asked)
    if file is not None:
        write_private(file, document["token"] + "\n")
        document["files"] = [str(file)]
    if form is not None:
        print_json(FORMATS[form](document))
        return
    if output == "json":
        print_json(document)
        return
    rows = [("token", document["token"]), ("grant", document["grant"])]
    rows += [("expires", document["expires"]), ("chain", " / ".join(document["chain"]))]
    click.echo(table(rows, ("", ""), cap=4096).partition("\n")[2])


def own_token(gateway: Gateway, narrowing: Narrowing) -> dict[str, Any]:
    """The token at hand as it is, with what the gateway says of it. Raises Failed."""
    if narrowing != Narrowing(None, (), None):
        raise Failed("your own token is not narrowed", "name an agent as well: --as NAME")
    own = gateway.call("GET", "/api/v1/self")
    known = {key: own[key] for key in ("grant", "expires", "chain")}
    return {"token": gateway.token(), **known, "files": []}


def _token(
    gateway: Gateway, name: str | None, groups: tuple[str, ...], narrowing: Narrowing
) -> dict[str, Any]:
    parent = gateway.token()
    if parent is not None and name is None:
        raise Failed("who is it for?", "name the agent: --as NAME (or unset TRAILGATE_TOKEN)")
    if parent is not None and groups:
        raise Failed("a child has its origin's groups", "leave --group out")
    if parent is None:
        lifetime = seconds(narrowing.expires) if narrowing.expires else DEFAULT_LIFETIME
        root = local_root(gateway, groups, lifetime)
        if name is None:
            if narrowing.allow is not None or narrowing.scope:
                raise Failed("a root token is not narrowed", "name an agent as well: --as NAME")
            return {**root, "files": []}
        parent = root["token"]
    assert name is not None
    child = exchange(gateway, parent, name, narrowing)
    return {
        "token": child["access_token"],
        "grant": child["grant"],
        "expires": child["expires"],
        "chain": child["chain"],
        "files": [],
    }


def write_private(path: Path, text: str) -> None:
    """A new file that only its owner can read, in the place of what was there. Raises Failed.

    Renamed when it is whole: who reads the file meanwhile, or has the old one open, sees no part.
    """
    try:
        descriptor, fresh = tempfile.mkstemp(prefix=".trailgate-", dir=path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.rename(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}", "name a file that you may write") from None


COMMAND = token
