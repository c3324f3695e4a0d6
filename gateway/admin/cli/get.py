# SPDX-License-Identifier: GPL-3.0-or-later
"""Print objects of a gateway, as files that `apply` reads; no secret is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from gateway.admin.cli._declaring import kind_in, yaml_text
from gateway.admin.cli.client import Gateway, gateway_for
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import print_json, table
from gateway.config.objects import plural

PAGE = 1000


@click.command(
    epilog="""\b
Example:
  trailgate get target orders -o yaml --data ./data

Exit codes: 0 done, 1 refused or not there, 2 could not be done."""
)
@click.argument("kind")
@click.argument("name", required=False)
@data_option
@output_option("yaml", "json", "table")
def command(kind: str, name: str | None, data: Path | None, output: str) -> None:
    """Objects of KIND (target, credential, policy, ...), or the one with NAME."""
    kinds, gateway = plural(kind_in(kind)), gateway_for(data)
    if name is not None:
        found = [gateway.call("GET", f"/api/v1/{kinds}/{quote(name, safe='')}")]
    else:
        found = _all(gateway, kinds)
    if output == "json":
        print_json(found if name is None else found[0])
    elif output == "yaml":
        click.echo("---\n".join(yaml_text(one["document"]) for one in found), nl=False)
    else:
        heading = ("NAME", "VERSION", "MANAGED BY", "CHANGED", "BY")
        click.echo(table([_row(one) for one in found], heading))


def _all(gateway: Gateway, kinds: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    while True:
        after = {"after": found[-1]["name"]} if found else {}
        page = gateway.call("GET", f"/api/v1/{kinds}?{urlencode({'limit': PAGE, **after})}")
        found += page
        if len(page) < PAGE:
            return found


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    version = str(one["version"] or "")
    changed = one["changed_at"] or "", one["changed_by"] or ""
    return (one["name"], version, one["managed_by"], *changed)


COMMAND = command
