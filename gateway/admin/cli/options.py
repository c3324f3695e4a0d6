# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several commands take, spelled once: -o, --data, --identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.admin.cli.output import Failed

F = TypeVar("F", bound=Callable[..., Any])

data_option: Callable[[F], F] = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TRAILGATE_DATA",
    help="The gateway's data folder.",
)
identity_option: Callable[[F], F] = click.option(
    "--identity",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Private key that opens the record. Default: DATA/auditor/identity.",
)


def output_option(*choices: str) -> Callable[[F], F]:
    """-o table|json|...; the first choice is the default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="How to print.",
    )


def existing_data(data: Path | None) -> Path:
    """The data folder, which must be there. Raises Failed."""
    if data is None:
        raise Failed("which gateway?", "name its data folder: --data DIR (or TRAILGATE_DATA)")
    if not data.is_dir():
        raise Failed(f"{data} is not a folder", "--data names the folder that the gateway printed")
    return data
