# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a commented trailgate.yaml, a master key, an auditor's key pair and a first policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import click

from gateway.admin.cli.output import Failed
from gateway.config import Settings
from gateway.config.reading import key_of
from gateway.credentials.master import make_key_file
from gateway.record.recipients import KINDS, make_recipient

_OBJECTS = """\
# Objects: one document each, the first key is the kind. See `trailgate doctor` when done.
recipient: auditor
key: {from: "file:auditor/recipient.pub"}
# ---
# target: orders                        # what is behind the gateway
# protocol: postgresql
# address: db1.internal:5432
# databases: [orders]                   # default first; "*" = any
# credentials: [orders-app]
# tls: {mode: verify-full, ca_path: /etc/trailgate/db-ca.pem}
# ---
# credential: orders-app                # what the gateway signs in with
# user: app
# secret: {from: "file:/run/secrets/orders"}
# ---
# issuer: corp                          # whose tokens are taken
# url: https://id.example.com
# audience: trailgate
"""
_POLICY = """\
# Nothing is allowed that no policy allows. Check with: trailgate policy lint policies
policy: read-only
description: Members of data-agents may read.
match: {groups: [data-agents]}
rules:
  - id: read
    allow: {sql: {kinds: [read]}}
"""


@click.command(epilog="Example: trailgate init --dir /etc/trailgate --data /var/lib/trailgate")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=".", help="Where to write."
)
@click.option(
    "--data", type=click.Path(path_type=Path), default="/var/lib/trailgate", help="Its data folder."
)
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="x25519",
    show_default=True,
    help="Of the auditor's key pair.",
)
def command(folder: Path, data: Path, kind: str) -> None:
    """Write a commented trailgate.yaml, a master key, an auditor's key pair and a first policy.

    Nothing that is there already is written over. Exit code 2 if something is.
    """
    files = {
        folder / "trailgate.yaml": settings_text(data.absolute()),
        folder / "objects.yaml": _OBJECTS,
        folder / "policies" / "read-only.yaml": _POLICY,
    }
    for path in (*files, folder / "auditor", folder / "master.key"):
        if path.exists():
            raise Failed(f"{path} is there already", "name another folder with --dir")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            click.echo(f"wrote {path}")
        make_recipient(folder / "auditor", kind)
        make_key_file(folder / "master.key")
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
    click.echo(f"wrote {folder / 'auditor'}: move `identity` to the auditor, it opens the record")
    click.echo(f"wrote {folder / 'master.key'}: keep a copy elsewhere, it opens the vault")
    click.echo(f"next: declare a target in {folder / 'objects.yaml'}, then")
    click.echo(f"      trailgate doctor --config {folder / 'trailgate.yaml'}")


COMMAND = command


def settings_text(data: Path) -> str:
    """trailgate.yaml with every setting, its meaning and its default, derived from the types."""
    lines = [
        "# Settings of a Trailgate gateway. What is commented out shows the default, or an example."
    ]
    for item in dataclasses.fields(Settings):
        if item.init:
            lines += _lines(item, get_type_hints(Settings)[item.name], data)
    return "\n".join(lines) + "\n"


_WRITTEN = {
    "listeners": "listeners:\n  postgresql: 127.0.0.1:15432\n  https: 127.0.0.1:8443",
    "objects": "objects: [objects.yaml]",
    "policies": "policies: [policies]",
}
_SAID = {"master_key": {"key": '"file:master.key"'}}
"""Of settings that have settings of their own."""


def _lines(item: dataclasses.Field[Any], kind: Any, data: Path) -> Iterator[str]:
    key = key_of(item)
    yield ""
    yield f"# {item.metadata.get('doc', '')}"
    if key == "data":
        yield f'data: "{data}"'
    elif key in _WRITTEN:
        yield _WRITTEN[key]
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        said = _SAID.get(key, {})
        yield f"{key}:" if said else f"# {key}:"
        yield from (f"  {name}: {value}" for name, value in said.items())
        for inner in dataclasses.fields(kind):
            if key_of(inner) in said:
                continue
            written = f"{key_of(inner)}: {_shown(inner)}"
            yield f"#   {written:<38}  # {inner.metadata.get('doc', '')}"
    else:
        yield f"# {key}: {_shown(item)}"


def _shown(item: dataclasses.Field[Any]) -> str:
    """A default as YAML; an example where the default is nothing."""
    if item.default in (dataclasses.MISSING, None, ""):
        return str(item.metadata.get("example", ""))
    if dataclasses.is_dataclass(item.default):
        inner = (f"{key_of(one)}: {_shown(one)}" for one in dataclasses.fields(item.default))
        return "{" + ", ".join(inner) + "}"
    return "[]" if item.default == () else str(item.default)
