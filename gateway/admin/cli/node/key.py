# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate node request`, `install` and `rotate`: on the gateway's machine, as its user.

They leave files in DATA/node; a running gateway does what they ask within a second.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import click

from gateway.admin.cli.options import data_option, existing_data
from gateway.admin.cli.output import Failed
from gateway.model import RecordFailed
from gateway.record import durable, nodekey
from gateway.record.authority import CERTIFICATES, INCOMING, certified_vkey, write_request
from gateway.verify.certificate import MOST_CERTIFICATE, open_certificate, open_request
from gateway.verify.note import NoteError

_WAIT_SECONDS = 30.0


@click.command(
    epilog="""\b
Examples:
  trailgate node request --data /var/lib/trailgate > gw1.request
  trailgate node request --next --data /var/lib/trailgate > gw1.request"""
)
@click.option("--next", "next_", is_flag=True, help="Of the next key, made if there is none yet.")
@data_option
def request(next_: bool, data: Path | None) -> None:
    """Print the request of which the offline root makes a certificate.

    It is public: the node's verifier key and since when it is used, signed by that key.

    Exit codes: 0 done, 2 the gateway was never started, or its folder cannot be used.
    """
    folder = _folder(data)
    name = _next(folder) if next_ else "request"
    click.echo((folder / name).read_bytes(), nl=False)


@click.command(epilog="Example: trailgate node install gw1.certificate --data /var/lib/trailgate")
@click.argument("certificate", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@data_option
def install(certificate: Path, data: Path | None) -> None:
    """Put CERTIFICATE into the node's log: that of its key, or of the next one.

    A running gateway does it within a second; otherwise the next start does.

    Exit codes: 0 done, 2 it is none of this node, or the gateway did not take it.
    """
    folder = _folder(data)
    with certificate.open("rb") as file:
        note = file.read(MOST_CERTIFICATE + 1)
    try:
        known = open_certificate(note, [])
    except NoteError as error:
        raise Failed(f"{certificate}: {error}", "trailgate node certify makes it") from error
    if known.key.text() not in _vkeys(folder):
        raise Failed(f"{certificate}: is of {known.key.text()}, no key of this node",
                     "trailgate node request prints this node's")  # fmt: skip
    if not known.holds_at(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")):
        raise Failed(f"{certificate}: holds from {known.not_before} to {known.not_after}, not now")
    path = folder / INCOMING / sha256(note).hexdigest()
    durable.make_folder(path.parent, 0o700)
    durable.put(path, note, folder / ".unfinished-certificate", 0o600)
    _await(folder, lambda: not path.exists(), "the certificate is in the log")


@click.command(epilog="Example: trailgate node rotate --data /var/lib/trailgate")
@data_option
def rotate(data: Path | None) -> None:
    """Give the node its next key; the old one signs for it and is gone.

    A certified node needs the next key's certificate first: `node request --next`, `node certify`,
    `node install`. A running gateway rotates within a second; otherwise the next start does.

    Exit codes: 0 done, 2 there is no certificate for the next key, or it was not done.
    """
    folder = _folder(data)
    _next(folder)
    current, following = _vkeys(folder)
    certified = {certified_vkey(path.read_bytes()) for path in _certificates(folder)}
    if current in certified and following not in certified:
        raise Failed(
            "this node is certified, and its next key is not",
            "trailgate node request --next, node certify on the root's machine, node install",
        )
    durable.put(folder / "rotate", b"", folder / ".unfinished-rotate", 0o600)
    _await(folder, lambda: not (folder / "rotate").exists(), f"the node's key is {following}")


def _folder(data: Path | None) -> Path:
    folder = existing_data(data) / "node"
    if not (folder / "request").is_file():
        raise Failed(
            f"{folder}: the node has no log yet", "start the gateway once: trailgate serve"
        )
    return folder


def _next(folder: Path) -> str:
    """The request of the next key, which is made if there is none."""
    try:
        key = nodekey.load_or_make(folder / "key.next")
        vkey, _ = open_request((folder / "request").read_bytes())
        write_request(folder / "request.next", nodekey.NoteSigner(key, vkey.name))
    except (RecordFailed, NoteError) as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(durable.explain(folder, error), "run it as the gateway's user") from error
    return "request.next"


def _vkeys(folder: Path) -> list[str]:
    """The node's key, and the next one if it is made."""
    paths = (folder / "request", folder / "request.next")
    return [open_request(path.read_bytes())[0].text() for path in paths if path.exists()]


def _certificates(folder: Path) -> list[Path]:
    return [*folder.glob(f"{CERTIFICATES}/[0-9a-f]*"), *folder.glob(f"{INCOMING}/[0-9a-f]*")]


def _await(folder: Path, done: Callable[[], bool], said: str) -> None:
    """Wait for a running gateway. Raises Failed."""
    end = time.monotonic() + _WAIT_SECONDS
    while _runs(folder.parent):
        if done():
            click.echo(said)
            return
        if time.monotonic() > end:
            raise Failed("the gateway has not done it yet", "its log says why; it goes on trying")
        time.sleep(0.1)
    click.echo(said if done() else "no gateway runs there: its next start does it")


def _runs(data: Path) -> bool:
    """Whether a gateway answers there. Its lock is not tried: for a moment we would hold it."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(str(data / "admin.sock"))
        except OSError:
            return False
    return True
