# SPDX-License-Identifier: GPL-3.0-or-later
"""Make key pairs for those who read the record, and erase the keys of sessions."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from gateway.admin.cli._groups import Group
from gateway.admin.cli.client import gateway_for
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import Failed, print_json, visible
from gateway.record.recipients import KINDS, make_recipient


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  trailgate keys make --dir auditor --kind mlkem768-x25519
  trailgate keys erase kq3v5xqzj2h3n4m5p6r7s7t3ua --data ./data

Exit codes: 0 done, 1 refused, 2 could not be done.""",
)
def keys() -> None:
    """Make key pairs for those who read the record, and erase the keys of sessions."""


@keys.command(epilog="Example: trailgate keys make --dir auditor --kind p256")
@click.option("--dir", "folder", type=click.Path(path_type=Path), required=True, help="Where to.")
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="x25519",
    show_default=True,
    help="mlkem768-x25519 holds against quantum computers; age is for the tool of that name.",
)
def make(folder: Path, kind: str) -> None:
    """Make a key pair: `identity` opens the record, `recipient.pub` goes to the gateway.

    Make it on the auditor's machine, so that the private key is nowhere else.

    Exit codes: 0 made, 2 one is there already, or it cannot be written.
    """
    try:
        recipient = make_recipient(folder, kind)
    except FileExistsError as error:
        raise Failed(f"{error.filename} is there already", "name another folder") from error
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
    click.echo(f"wrote {folder / 'identity'}: keep it, it opens the record")
    click.echo(f"wrote {folder / 'recipient.pub'}: {recipient.fingerprint}")


@keys.command(epilog="Example: trailgate keys erase kq3v5xqzj2h3n4m5p6r7s7t3ua --data ./data")
@click.argument("session")
@data_option
@output_option("text", "json")
def erase(session: str, data: Path | None, output: str) -> None:
    """Erase the key of a closed SESSION: nobody can read its content any more, ever.

    The record says so, and every proof still holds. SESSION is the whole id. A legal hold that
    covers it forbids it. Only by the gateway's admin socket.

    Exit codes: 0 erased or pending, 1 refused, 2 no gateway answered.
    """
    answer = gateway_for(data).call("DELETE", f"/api/v1/keys/{quote(session, safe='')}")
    if output == "json":
        print_json(answer)
    elif answer["state"] == "erased":
        click.echo(f"erased: {session}")
    else:
        click.echo(f"pending: {session}: {visible(answer['cause'])}")
        click.echo("the gateway goes on by itself; `trailgate verify` lists what is erased")


COMMAND = keys
