# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate node certify`: the offline root, on a machine that is not the gateway."""

from __future__ import annotations

import base64
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.admin.cli.output import Failed, visible
from gateway.verify.certificate import CERTIFICATE, MOST_CERTIFICATE, body, open_request
from gateway.verify.note import ED25519, NoteError, VerifierKey

_MARK = "trailgate-root-ed25519"
_MOST_DAYS = 3650


class Root:
    """The root's key, and what it signs."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.vkey = VerifierKey.make(name, key.public_key().public_bytes_raw(), ED25519)

    @staticmethod
    def make(path: Path, name: str) -> Root:
        """A new root in `path` (0600), its public key beside it in PATH.pub. Raises Failed."""
        if not re.fullmatch(r"[^+\s]{1,100}", name):
            raise Failed(f"{visible(name)!r} is no name of a root", "write root.example.com")
        root = Root(name, Ed25519PrivateKey.generate())
        secret = base64.b64encode(root._key.private_bytes_raw()).decode()
        try:
            _write_new(path, f"{_MARK} {name} {secret}\n", 0o600)
            _write_new(public_path(path), root.vkey.text() + "\n", 0o644)
        except FileExistsError as error:
            raise Failed(
                f"{error.filename} is there", "a root is made once: without --make"
            ) from error
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}", "name a place that may be written") from error
        return root

    @staticmethod
    def load(path: Path) -> Root:
        """Raises Failed."""
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise Failed(f"{path}: others may read the root's key", f"chmod 600 {path}")
            with path.open("rb") as file:
                mark, name, secret = file.read(1000).decode("ascii").split()
            key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret, validate=True))
        except OSError as error:
            cure = "make it once: trailgate node certify --make NAME"
            raise Failed(f"{path}: {error.strerror}", cure) from error
        except ValueError:
            raise Failed(f"{path}: is no root's key", "restore it from your copy") from None
        if mark != _MARK:
            raise Failed(f"{path}: is no root's key", "restore it from your copy")
        return Root(name, key)

    def certify(self, vkey: VerifierKey, since: str, until: str) -> bytes:
        """A node certificate; times as 2026-11-24T12:00:00Z."""
        text = body(CERTIFICATE, vkey.text(), since, until)
        signature = base64.b64encode(self.vkey.hash + self._key.sign(text)).decode()
        return text + f"\n\u2014 {self.vkey.name} {signature}\n".encode()


def public_path(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def _write_new(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@click.command(
    epilog="""\b
Examples:
  trailgate node certify gw1.request --root root.key --make root.example.com > gw1.certificate
  trailgate node certify gw1.request --root root.key --days 30 > gw1.certificate"""
)
@click.argument("request", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--root",
    "path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The root's private key, a file of mode 0600 on this machine only.",
)
@click.option("--make", "name", metavar="NAME", help="Make the root first, with this name.")
@click.option("--days", type=click.IntRange(1, _MOST_DAYS), default=90, show_default=True,
              help="How long from now.")  # fmt: skip
def certify(request: Path, path: Path, name: str | None, days: int) -> None:
    """Sign a certificate for the key in REQUEST, and print it.

    Run it where the gateway's operator cannot reach the root's key. The certificate holds from the
    time that the request names, so that what the key signed before it came is covered too: look at
    both times, they are printed on standard error. The public key for trust files is FILE.pub.

    Exit codes: 0 done, 2 could not be done.
    """
    try:
        with request.open("rb") as file:
            vkey, since = open_request(file.read(MOST_CERTIFICATE + 1))
    except (NoteError, OSError) as error:
        raise Failed(f"{request}: {error}", "trailgate node request makes it") from error
    root = Root.make(path, name) if name is not None else Root.load(path)
    begins = since.replace(".000000Z", "Z")
    until = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if begins >= until:
        raise Failed(f"{request}: is of {begins}, later than {until}", "set this machine's clock")
    click.echo(f"{root.vkey.name} certifies {vkey.text()} from {begins} to {until}", err=True)
    click.echo(root.certify(vkey, begins, until), nl=False)
