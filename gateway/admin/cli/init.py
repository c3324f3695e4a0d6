# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a commented trailgate.yaml, a master key, an auditor's key pair and a first policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import click

from gateway.admin.cli._aws import Buckets, make_buckets
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
_POLICY_PATH = "policies/read-only.yaml"
_WRITES = ("trailgate.yaml", "objects.yaml", _POLICY_PATH, "auditor", "master.key")
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
@click.option("--aws", is_flag=True, help="Make the evidence buckets too, by Terraform.")
@click.option("--name", help="--aws: the buckets are NAME-evidence, NAME-keys, NAME-lake.")
@click.option("--region", help="--aws: the region of the buckets.")
@click.option("--auditor", multiple=True, help="--aws: ARN of who may read them; may be repeated.")
@click.option("--yes", is_flag=True, help="--aws: do what the plan shows without asking.")
def command(
    folder: Path,
    data: Path,
    kind: str,
    aws: bool,
    name: str | None,
    region: str | None,
    auditor: tuple[str, ...],
    yes: bool,
) -> None:
    """Write a commented trailgate.yaml, a master key, an auditor's key pair and a first policy.

    Nothing that is there already is written over. With --aws the buckets for the evidence are
    planned, shown, and made once you agree; their names stand in the settings. The Terraform
    files stay in DIR/terraform and are yours. Exit codes: 0 done, 1 the plan was turned down,
    2 could not be done.
    """
    for each in _WRITES:
        path = folder / each
        if path.exists():
            raise Failed(f"{path} is there already", "name another folder with --dir")
    evidence: Mapping[str, str] = {}
    if aws:
        evidence = make_buckets(folder / "terraform", _asked(name, region, auditor), ask=not yes)
    elif name or region or auditor or yes:
        raise Failed("--name, --region, --auditor and --yes belong to --aws", "add --aws")
    _write(folder, settings_text(data.absolute(), evidence), kind)


def _asked(name: str | None, region: str | None, auditor: tuple[str, ...]) -> Buckets:
    if not name or not region:
        raise Failed(
            "--aws needs --name and --region",
            "trailgate init --aws --name acme-trailgate --region eu-central-1",
        )
    return Buckets(name, region, auditor)


def _write(folder: Path, settings: str, kind: str) -> None:
    files = {
        folder / "trailgate.yaml": settings,
        folder / "objects.yaml": _OBJECTS,
        folder / _POLICY_PATH: _POLICY,
    }
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


def settings_text(data: Path, evidence: Mapping[str, str] | None = None) -> str:
    """trailgate.yaml with every setting, its meaning and its default, derived from the types.

    `evidence`: what stands below `evidence`, not commented out.
    """
    lines = [
        "# Settings of a Trailgate gateway. What is commented out shows the default, or an example."
    ]
    for item in dataclasses.fields(Settings):
        if item.init:
            given = evidence or {} if item.name == "evidence" else _SAID.get(item.name, {})
            lines += _lines(item, get_type_hints(Settings)[item.name], data, given)
    return "\n".join(lines) + "\n"


_WRITTEN = {
    "listeners": "listeners:\n  postgresql: 127.0.0.1:15432\n  https: 127.0.0.1:8443",
    "objects": "objects: [objects.yaml]",
    "policies": "policies: [policies]",
}
_SAID: Mapping[str, Mapping[str, str]] = {"master_key": {"key": '"file:master.key"'}}
"""Of settings that have settings of their own."""


def _lines(
    item: dataclasses.Field[Any], kind: Any, data: Path, given: Mapping[str, str]
) -> Iterator[str]:
    key = key_of(item)
    yield ""
    yield f"# {item.metadata.get('doc', '')}"
    if key == "data":
        yield f'data: "{data}"'
    elif key in _WRITTEN:
        yield _WRITTEN[key]
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield f"{key}:" if given else f"# {key}:"
        for inner in dataclasses.fields(kind):
            name = key_of(inner)
            mark, value = ("  ", given[name]) if name in given else ("#   ", _shown(inner))
            yield f"{mark}{f'{name}: {value}':<38}  # {inner.metadata.get('doc', '')}"
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
