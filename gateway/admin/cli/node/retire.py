# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate node retire`: the node's last leaf."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gateway.admin.cli.output import Failed
from gateway.config import ConfigError, load_settings
from gateway.data_folder import StartFailed
from gateway.wiring.retiring import retire_node


@click.command(epilog="Example: trailgate node retire --config /etc/trailgate/trailgate.yaml")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default="trailgate.yaml",
    show_default=True,
    help="The settings.",
)
def retire(path: Path) -> None:
    """Sign that the node of these settings is no more; its gateway must have been ended.

    Nothing can be added to its log then: a gateway of that name does not start again. Auditors
    expect no more evidence of it.

    Exit codes: 0 done, 2 it runs, was not ended properly, or is retired already.
    """
    try:
        settings, _ = load_settings(path.absolute())
        origin = asyncio.run(retire_node(settings))
    except ConfigError as error:
        raise Failed(f"the settings are wrong:\n{error}", "trailgate doctor shows more") from error
    except StartFailed as error:
        raise Failed(str(error), error.cure) from error
    click.echo(f"{origin} is retired")
