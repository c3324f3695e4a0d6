# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the secrets that the gateway signs in with: set, list, rotate, re-wrap."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gateway.admin.cli.client import Gateway, gateway_for
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import Failed, print_documents, print_json, table, visible

SECRET_CAP = 64 * 1024


@click.group(
    epilog="""\b
Examples:
  trailgate credentials list --data ./data
  trailgate credentials set orders-app --file /run/secrets/orders --data ./data

Exit codes: 0 done, 1 refused, 2 could not be done."""
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
    """
    gateway = gateway_for(data)
    document = {"secret": _secret(path), "account": account}
    answer = gateway.call(
        "PUT", f"/api/v1/credentials/{quote(name, safe='')}/secret", json=document
    )
    if output == "json":
        print_json(answer)
    else:
        click.echo(f"{visible(name)}: version {answer['version']} is in force")


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
    """Destroy every version of a secret in the vault."""
    answer = gateway_for(data).call("DELETE", f"/api/v1/credentials/{quote(name, safe='')}/secret")
    if output == "json":
        print_json(answer)
    else:
        click.echo(f"{visible(name)}: the vault holds nothing of it any more")


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


COMMAND = credentials
