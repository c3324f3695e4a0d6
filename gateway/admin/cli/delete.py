# SPDX-License-Identifier: GPL-3.0-or-later
"""Take one declared object back."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlencode

import click

from gateway.admin.cli._declaring import kind_in
from gateway.admin.cli.client import gateway_for
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import print_json, visible
from gateway.config.objects import plural


@click.command(
    epilog="""\b
Example:
  trailgate delete target orders --data ./data

Exit codes: 0 deleted, 1 refused or not there, 2 could not be done."""
)
@click.argument("kind")
@click.argument("name")
@click.option("--set", "set_name", default=None, help="The set that it belongs to.")
@click.option("--adopt", is_flag=True, help="Also if somebody else manages it.")
@data_option
@output_option("text", "json")
def command(
    kind: str, name: str, set_name: str | None, adopt: bool, data: Path | None, output: str
) -> None:
    """Delete the object NAME of KIND; what others still need stays."""
    kind = kind_in(kind)
    asked = {"adopt": "true" if adopt else "false"}
    asked["managed_by"] = f"apply:{set_name}" if set_name is not None else "apply"
    path = f"/api/v1/{plural(kind)}/{quote(name, safe='')}?{urlencode(asked)}"
    answer = gateway_for(data).call("DELETE", path)
    if output == "json":
        print_json(answer)
    else:
        click.echo(f"deleted: {kind} {visible(name)}")


COMMAND = command
