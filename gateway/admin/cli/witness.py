# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the small witness of an auditor: it cosigns what extends what it saw before."""

from __future__ import annotations

import re
import signal
import socket
import threading
from pathlib import Path

import click

from gateway.admin.cli.output import Failed
from gateway.verify.findings import CannotCheck
from gateway.verify.note import NoteError
from gateway.verify.trust import Trust
from gateway.witness.keeper import Witness, WitnessError
from gateway.witness.serving import WitnessServer, cosign_file


@click.command(
    "witness",
    epilog="""\b
Examples:
  trailgate witness --dir ./witness --log node.vkey --listen 127.0.0.1:8765
  trailgate witness --dir ./witness --once /mnt/evidence/log/gw1/0/checkpoint""",
)
@click.option(
    "--dir",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The witness's folder: its key, and what it saw.",
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A log to witness: its node.vkey. Needed once; repeat for more.",
)
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A root's public key: logs that it certifies are taken in. Needed once; repeat for more.",
)
@click.option("--name", help="Of a new key. Default: witness/HOST.")
@click.option("--listen", metavar="HOST:PORT", help="Serve C2SP tlog-witness over HTTP.")
@click.option("--once", is_flag=True, help="Read and cosign these checkpoint files, and end.")
@click.argument("checkpoints", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
def COMMAND(
    folder: Path,
    logs: tuple[Path, ...],
    roots: tuple[Path, ...],
    name: str | None,
    listen: str | None,
    once: bool,
    checkpoints: tuple[Path, ...],
) -> None:
    """Witness the logs of gateways, on a machine that their operator does not rule.

    The first start makes a key. DIR then is what `verify --trust DIR` takes, and the line that is
    printed goes into the gateway's settings, evidence.witness.vkey. With --once each log is read
    from beside its CHECKPOINT and the cosigned one is printed.

    Exit codes: 0 done, 1 a checkpoint was not cosigned, 2 could not be done.
    """
    if once == bool(listen) or once != bool(checkpoints):
        raise Failed("serve, or cosign files once?", "--listen HOST:PORT, or --once CHECKPOINT...")
    given = name or f"witness/{socket.gethostname()}"
    try:
        witness = Witness.open(folder, given, _lines(logs), roots=_lines(roots))
    except (WitnessError, NoteError, OSError, UnicodeDecodeError) as error:
        raise Failed(str(error)) from error
    try:
        if listen:
            _serve(witness, listen)
        else:
            _once(witness, folder, checkpoints)
    finally:
        witness.close()


def _lines(paths: tuple[Path, ...]) -> list[str]:
    lines = [line.strip() for path in paths for line in path.read_text("utf-8").splitlines()]
    return [line for line in lines if line]


def _serve(witness: Witness, listen: str) -> None:
    host, _, port = listen.rpartition(":")
    if not host or not re.fullmatch(r"\d{1,5}", port):
        raise Failed(f"{listen!r} is no address", "write HOST:PORT")
    try:
        server = WitnessServer((host.strip("[]"), int(port)), witness)
    except (OSError, OverflowError) as error:
        raise Failed(f"cannot listen on {listen}: {error}", "choose another port") from error
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    click.echo(f"vkey: {witness.vkey.text()}")
    click.echo(f"listening on {host}:{server.server_address[1]}; logs: {', '.join(witness.logs)}")
    with server:
        server.serve_forever()


def _once(witness: Witness, folder: Path, checkpoints: tuple[Path, ...]) -> None:
    click.echo(f"vkey: {witness.vkey.text()}", err=True)
    failed = False
    for path in checkpoints:
        try:
            cosigned = cosign_file(witness, Trust.load(folder), path)
        except (CannotCheck, NoteError) as error:
            click.echo(str(error), err=True)
            failed = True
        else:
            click.echo(cosigned.decode(), nl=False)
    if failed:
        raise SystemExit(1)
