# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare objects in files with those of a gateway; nothing is changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from gateway.admin.cli._declaring import (
    colored,
    difference,
    differs,
    documents_in,
    files_option,
    prune_option,
    set_option,
)
from gateway.admin.cli.client import gateway_for, status_of
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import Failed, print_json


@click.command(
    epilog="""\b
Example:
  trailgate diff -f objects/ --data ./data

Exit codes: 0 the same, 1 different, 2 could not be compared, or the files are wrong."""
)
@files_option
@set_option
@prune_option
@data_option
@output_option("text", "json")
def command(
    paths: Sequence[Path], set_name: str | None, prune: bool, data: Path | None, output: str
) -> None:
    """What `apply` would change, checked by the gateway as `apply` would be."""
    asked = {"objects": documents_in(paths), "adopt": True, "prune": prune, "set": set_name}
    try:
        answer = gateway_for(data).call("POST", "/api/v1/apply?dry_run=true", json=asked)
    except Failed as failed:
        if status_of(failed) is not None:
            # 1 would say that they differ.
            raise Failed(failed.message, failed.cure, 2) from None
        raise
    different = [change for change in answer["changes"] if differs(change)]
    if output == "json":
        print_json(different)
    else:
        for change in different:
            for line in difference(change):
                click.echo(colored(line))
    sys.exit(1 if different else 0)


COMMAND = command
