# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate node trust`: a trust file for auditors."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import click

from gateway.admin.cli.output import Failed
from gateway.verify.certificate import MOST_CERTIFICATE, open_certificate
from gateway.verify.note import COSIGNATURE, ED25519, NoteError, VerifierKey
from gateway.verify.trust import Trust

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command(
    epilog="""\b
Examples:
  trailgate node trust gw1.certificate --root root.key.pub --witness witness.vkey > trust
  trailgate node trust --root root.key.pub --node gw1 --node gw2 > trust"""
)
@click.argument("certificates", nargs=-1, type=_FILE)
@click.option("--root", "root", required=True, type=_FILE, help="The root's public key: FILE.pub.")
@click.option("--node", "nodes", multiple=True, help="A node that must be there; repeat for more.")
@click.option(
    "--witness", "witnesses", multiple=True, type=_FILE, help="A witness's vkey; repeat for more."
)
@click.option("--quorum", default="all", show_default=True, help="How many of them: any, all or N.")
def trust(
    certificates: tuple[Path, ...],
    root: Path,
    nodes: tuple[str, ...],
    witnesses: tuple[Path, ...],
    quorum: str,
) -> None:
    """Print a trust file for `verify --trust`: root, nodes, witnesses and their quorum.

    Give it to auditors by another way than the evidence. Nodes of the CERTIFICATES must have
    evidence for as long as those hold, or a retirement; nodes named by --node for good.

    Exit codes: 0 done, 2 a file is not what it should be.
    """
    try:
        text = _text(certificates, root, nodes, witnesses, quorum)
        Trust.parse(text)
    except (NoteError, OSError, UnicodeDecodeError) as error:
        raise Failed(f"no trust file: {error}") from error
    click.echo(text, nl=False)


def _text(
    certificates: tuple[Path, ...],
    root: Path,
    nodes: tuple[str, ...],
    witnesses: tuple[Path, ...],
    quorum: str,
) -> str:
    key = VerifierKey.parse(_line(root), ED25519)
    lines = ["# For trailgate verify --trust", f"root {key.text()}"]
    for path in certificates:
        with path.open("rb") as file:
            note = file.read(MOST_CERTIFICATE + 1)
        try:
            one = open_certificate(note, [key])
        except NoteError as error:
            raise NoteError(f"{path} {error}") from error
        lines.append(f"# {one.key.text()} from {one.not_before} to {one.not_after}")
        lines.append(f"certificate {base64.b64encode(note).decode()}")
    lines += [f"node {name}" for name in nodes]
    return "\n".join([*lines, *_policy(witnesses, quorum)]) + "\n"


def _policy(witnesses: tuple[Path, ...], quorum: str) -> list[str]:
    if not witnesses:
        return ["quorum none"]
    names = [f"w{number}" for number in range(1, len(witnesses) + 1)]
    keys = [VerifierKey.parse(_line(path), COSIGNATURE).text() for path in witnesses]
    lines = [f"witness {name} {key}" for name, key in zip(names, keys, strict=True)]
    if not re.fullmatch("any|all|[1-9][0-9]*", quorum):
        raise NoteError(f"{quorum!r} is no quorum: write any, all or a number")
    return [*lines, f"group witnesses {quorum} {' '.join(names)}", "quorum witnesses"]


def _line(path: Path) -> str:
    return path.read_text("utf-8").strip().removeprefix("vkey: ")
