# SPDX-License-Identifier: GPL-3.0-or-later
"""Make key pairs for those who read the record."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.admin.cli.output import Failed
from gateway.record.recipients import KINDS, make_recipient


@click.group(
    epilog="""\b
Examples:
  trailgate keys make --dir auditor --kind mlkem768-x25519

Exit codes: 0 done, 2 could not be done."""
)
def keys() -> None:
    """Make key pairs for those who read the record."""


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


COMMAND = keys
