# SPDX-License-Identifier: GPL-3.0-or-later
"""See who was given authority, and take it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gateway.admin.cli._groups import Group
from gateway.admin.cli.client import gateway_for
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import print_documents, print_json, table, visible


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  trailgate grants tree --data ./data
  trailgate grants revoke g_5f0c2a9d417e66b03c18

Exit codes: 0 done, 1 refused, 2 could not be done.""",
)
def grants() -> None:
    """See who was given authority, and take it back."""


@grants.command("list", epilog="Example: trailgate grants list --state live -o jsonl")
@click.option(
    "--state",
    type=click.Choice(["live", "revoked", "lapsed", "ended", "expired"]),
    help="Only grants in this state.",
)
@data_option
@output_option("table", "json", "jsonl")
def list_(state: str | None, data: Path | None, output: str) -> None:
    """Grants, one a line: yours and those below, or all with --data.

    Exit codes: 0 done, 1 refused, 2 could not be done.
    """
    flat = [
        {key: value for key, value in grant.items() if key != "children"}
        for grant, _ in _walk(gateway_for(data).call("GET", "/api/v1/grants"))
        if state in (None, grant["state"])
    ]
    if output != "table":
        print_documents(flat, output)
        return
    rows = [
        (
            grant["grant"],
            " / ".join(grant["chain"]),
            grant["state"],
            grant["expires"],
            str(grant["sessions"]),
        )
        for grant in flat
    ]
    click.echo(table(rows, ("GRANT", "CHAIN", "STATE", "EXPIRES", "SESSIONS")))


@grants.command(epilog="Example: trailgate grants tree -o json")
@data_option
@output_option("table", "json")
def tree(data: Path | None, output: str) -> None:
    """Grants as they were handed down.

    Exit codes: 0 done, 1 refused, 2 could not be done.
    """
    tops = gateway_for(data).call("GET", "/api/v1/grants")
    if output == "json":
        print_json(tops)
        return
    for grant, depth in _walk(tops):
        line = f"{visible(grant['actor'])}  {grant['grant']}  {', '.join(_facts(grant))}"
        click.echo("  " * depth + line)


def _facts(grant: dict[str, Any]) -> Iterator[str]:
    """What there is to say of it, the usual left out."""
    by = f" by {visible(grant['revoked_by'])}" if grant["revoked_by"] else ""
    yield grant["state"] + by
    if grant["depth"]:
        yield "proved" if grant["proved"] else "asserted"
    if grant["isolation"] != "none":
        yield f"isolated by {grant['isolation']}"
    if grant["lease_until"] and grant["state"] == "live":
        yield f"lease until {grant['lease_until']}"
    if grant["sessions"]:
        yield f"{grant['sessions']} open session" + ("" if grant["sessions"] == 1 else "s")


@grants.command(epilog="Example: trailgate grants revoke g_5f0c2a9d417e66b03c18")
@click.argument("grant")
@data_option
@output_option("table", "json")
def revoke(grant: str, data: Path | None, output: str) -> None:
    """Revoke GRANT and all below it; their open sessions end.

    Exit codes: 0 done, 1 refused, 2 could not be done.
    """
    answer = gateway_for(data).call("DELETE", f"/api/v1/grants/{_path_part(grant)}")
    if output == "json":
        print_json(answer)
        return
    count = len(answer["revoked"])
    click.echo(f"revoked: {count} grant{'' if count == 1 else 's'}")


def _path_part(text: str) -> str:
    if not all(c.isascii() and (c.isalnum() or c in "_-") for c in text) or not text:
        raise click.BadParameter("that is no grant's id", param_hint="GRANT")
    return text


def _walk(tops: list[dict[str, Any]], depth: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Every grant with its depth, parents first."""
    for grant in tops:
        yield grant, depth
        yield from _walk(grant["children"], depth + 1)


COMMAND = grants
