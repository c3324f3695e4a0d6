# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the secrets that the gateway signs in with: set, list, rotate, re-wrap."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gateway.admin.cli._groups import Group
from gateway.admin.cli.client import Gateway, gateway_for, seconds
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import Failed, print_documents, print_json, table, visible
from gateway.credentials.master import make_key_file

SECRET_CAP = 64 * 1024
POLL_SECONDS = 0.5


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  trailgate credentials list --data ./data
  trailgate credentials set orders-app --file /run/secrets/orders --data ./data

Exit codes: 0 done, 1 refused, 2 could not be done.""",
)
def credentials() -> None:
    """Keep the secrets that the gateway signs in with."""


@credentials.command("list", epilog="Example: trailgate credentials list -o jsonl --data ./data")
@click.argument("name", required=False)
@data_option
@output_option("table", "json", "jsonl")
def list_(name: str | None, data: Path | None, output: str) -> None:
    """Credentials and where their secrets are; with NAME, the versions of one.

    A secret is never shown.

    Exit codes: 0 done, 1 refused, 2 could not be done.
    """
    gateway = gateway_for(data)
    path = "/api/v1/vault/credentials"
    if name:
        path = f"/api/v1/credentials/{quote(name, safe='')}/versions"
    found = gateway.call("GET", path)
    if output != "table":
        print_documents(found, output)
    elif name:
        click.echo(
            table([_version(one) for one in found], ("VERSION", "ACCOUNT", "STATE", "SINCE", "BY"))
        )
    else:
        heading = ("NAME", "USER", "SECRET", "VERSION", "SIGNS IN AS", "SINCE")
        click.echo(table([_credential(one) for one in found], heading))


def _credential(one: dict[str, Any]) -> tuple[str, ...]:
    source = (one["source"] or "none") if one["opens"] else "does not open"
    return (
        one["name"],
        one["user"] or "not declared",
        source,
        str(one["version"] or ""),
        one["account"] or "",
        one["since"] or "",
    )


def _version(one: dict[str, Any]) -> tuple[str, ...]:
    since = {"pending": "made", "proved": "proved"}.get(one["state"], one["state"])
    return (
        str(one["version"]),
        one["account"] or "",
        one["state"],
        one[f"{since}_at"] or "",
        one["made_by"],
    )


@credentials.command(
    "set",
    epilog="""\b
Examples:
  trailgate credentials set orders-app --file /run/secrets/orders --data ./data
  pass show orders | trailgate credentials set orders-app --data ./data""",
)
@click.argument("name")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with the secret and nothing else. Default: standard input.",
)
@click.option(
    "--account", default="", help="The user at the target, if it is not the credential's."
)
@data_option
@output_option("text", "json")
def set_(name: str, path: Path | None, account: str, data: Path | None, output: str) -> None:
    """Put a secret in force. It is read from a file or from standard input.

    It must be in force at the target, or become so now: this changes nothing there. The secret
    before it is a second choice for 15 minutes.

    Exit codes: 0 done, 1 refused, 2 could not be done.
    """
    gateway = gateway_for(data)
    document = {"secret": _secret(path), "account": account}
    answer = gateway.call(
        "PUT", f"/api/v1/credentials/{quote(name, safe='')}/secret", json=document
    )
    if output == "json":
        print_json(answer)
    else:
        spare = answer["state"] != "current"
        state = "is kept for its account's next turn" if spare else "is in force"
        click.echo(f"{visible(name)}: version {answer['version']} {state}")


def _secret(path: Path | None) -> str:
    """Less the end of its last line. Raises Failed."""
    try:
        if path is not None:
            with path.open("rb") as file:
                content = file.read(SECRET_CAP + 1)
        elif sys.stdin.isatty():
            return str(click.prompt("Secret", hide_input=True, err=True))
        else:
            content = sys.stdin.buffer.read(SECRET_CAP + 1)
        secret = content.decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is not UTF-8"
        raise Failed(
            f"the secret cannot be read: {cause}", "name a text file: --file PATH"
        ) from None
    if not secret or len(content) > SECRET_CAP:
        size = f"over {SECRET_CAP} bytes" if secret else "empty"
        raise Failed(f"the secret is {size}", "give the secret and nothing else")
    return secret


@credentials.command(epilog="Example: trailgate credentials drop orders-app --data ./data")
@click.argument("name")
@data_option
@output_option("text", "json")
def drop(name: str, data: Path | None, output: str) -> None:
    """Destroy every version of a secret in the vault.

    Exit codes: 0 done, 1 refused, 2 could not be done.
    """
    answer = gateway_for(data).call("DELETE", f"/api/v1/credentials/{quote(name, safe='')}/secret")
    if output == "json":
        print_json(answer)
    else:
        click.echo(f"{visible(name)}: the vault holds nothing of it any more")


@credentials.command(
    epilog="""\b
Examples:
  trailgate credentials rotate orders-app --data ./data
  trailgate credentials rotate orders-app --max-age 30d --data ./data"""
)
@click.argument("name")
@click.option("--max-age", metavar="TIME", help="Only if the secret is older: 90s, 15m, 8h, 30d.")
@click.option("--force", is_flag=True, help="At any age; a grace that still runs ends now.")
@click.option(
    "--wait", metavar="TIME", default="60s", show_default=True, help="For the new secret."
)
@data_option
@output_option("text", "json")
def rotate(
    name: str, max_age: str | None, force: bool, wait: str, data: Path | None, output: str
) -> None:
    """Have the gateway make a new secret, prove it at the target, and switch to it.

    Exit codes: 0 switched, or young enough; 1 refused or failed, and the secret before stays;
    2 not switched in time (it goes on), or no gateway answered.
    """
    gateway, path = gateway_for(data), f"/api/v1/credentials/{quote(name, safe='')}"
    body = {"max_age": None if max_age is None else seconds(max_age), "force": force}
    answer = gateway.call("POST", f"{path}/rotate", json=body)
    if answer["changed"]:
        end = time.monotonic() + seconds(wait)
        while _on_its_way(answer["rotation"]) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            found = gateway.call("GET", f"{path}/rotations")
            answer["rotation"] = next(o for o in found if o["id"] == answer["rotation"]["id"])
    if output == "json":
        print_json(answer)
    _tell_rotation(name, answer, output)


def _on_its_way(rotation: dict[str, Any]) -> bool:
    return not rotation["outcome"] and rotation["step"] not in ("switched", "retiring")


def _tell_rotation(name: str, answer: dict[str, Any], output: str) -> None:
    """Raises Failed."""
    rotation, shown = answer["rotation"], visible(name)
    detail = visible(rotation["detail"] or "") if rotation else ""
    if rotation and answer["changed"] and rotation["outcome"] == "failed":
        raise Failed(f"{shown} was not rotated: {detail}", "the secret before stays in force", 1)
    if rotation and _on_its_way(rotation):
        said = f"{shown}: version {rotation['version']} is {rotation['step']}"
        cure = f"it goes on by itself: trailgate credentials list {shown}"
        raise Failed(f"{said}; {detail}" if detail else said, cure)
    if output == "text" and not answer["changed"]:
        click.echo(f"{shown}: is young enough")
    elif output == "text":
        click.echo(f"{shown}: version {rotation['version']} is in force")


@credentials.command(epilog="Example: trailgate credentials rewrap --data ./data")
@click.option(
    "--all", "everything", is_flag=True, help="Also what is under the current key already."
)
@data_option
@output_option("text", "json")
def rewrap(everything: bool, data: Path | None, output: str) -> None:
    """Wrap every key of the vault under the current master key.

    If it is interrupted, call it again. Exit code 1 if something did not open.
    """
    answer = _rewrapped(gateway_for(data), everything)
    if output == "json":
        print_json(answer)
    else:
        kept = f"{answer['kept']} were so already"
        click.echo(f"{answer['master_key']}: {answer['rewrapped']} keys wrapped anew, {kept}")
    if answer["failed"]:
        raise Failed(
            "not opened: " + "; ".join(answer["failed"]),
            "name their master key in master_key.previous and start the gateway again",
            1,
        )


def _rewrapped(gateway: Gateway, everything: bool) -> dict[str, Any]:
    """Call after call until all is done; the sums."""
    total: dict[str, Any] = {"master_key": "", "rewrapped": 0, "kept": 0, "failed": []}
    after: str | None = ""
    while after is not None:
        body = {"all": everything, "after": after}
        answer = gateway.call("POST", "/api/v1/vault/rewrap", json=body)
        total["master_key"], after = answer["master_key"], answer["next"]
        for name in ("rewrapped", "kept", "failed"):
            total[name] += answer[name]
    return total


@credentials.command(
    "make-master-key", epilog="Example: trailgate credentials make-master-key ./master.key"
)
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
def make_master_key(path: Path) -> None:
    """Write a new master key to PATH, for this user alone; a key that is there is left alone.

    Keep a copy of it apart from the backups of the store: without it no secret opens.

    Exit codes: 0 written, 2 it is there already, or cannot be written.
    """
    try:
        make_key_file(path)
    except FileExistsError:
        raise Failed(
            f"{path} is there already", "name another file: a key is never replaced"
        ) from None
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}", "name a file that can be written") from error
    click.echo(f"wrote {path}")


COMMAND = credentials
