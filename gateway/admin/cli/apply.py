# SPDX-License-Identifier: GPL-3.0-or-later
"""Declare objects from files: all of them, or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from gateway.admin.cli._declaring import documents_in, files_option, prune_option, set_option
from gateway.admin.cli.client import gateway_for
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import Failed, print_json, visible

_DONE = {"create": "created", "update": "changed", "delete": "deleted", "none": "unchanged"}


@click.command(
    epilog="""\b
Example:
  trailgate apply -f objects/ --set shop --prune --data ./data

Exit codes: 0 done, 1 refused, 2 could not be done."""
)
@files_option
@set_option
@prune_option
@click.option("--adopt", is_flag=True, help="Take over objects that somebody else manages.")
@data_option
@output_option("text", "json")
def command(
    paths: Sequence[Path],
    set_name: str | None,
    prune: bool,
    adopt: bool,
    data: Path | None,
    output: str,
) -> None:
    """Declare the objects of files and folders; they are in force at once, or nothing is.

    Paths inside objects are of the gateway's machine and absolute. Only public keys may lie beside
    the file: they are sent along.
    """
    if prune and set_name is None:
        raise Failed("prune what?", "name the set: --set NAME --prune")
    asked = {"objects": documents_in(paths), "adopt": adopt, "prune": prune, "set": set_name}
    answer = gateway_for(data).call("POST", "/api/v1/apply", json=asked)
    if output == "json":
        print_json(answer)
        return
    for change in answer["changes"]:
        click.echo(f"{_DONE[change['action']]}: {change['kind']} {visible(change['name'])}")


COMMAND = command
