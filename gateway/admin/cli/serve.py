# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the gateway; SIGTERM drains it, SIGHUP reloads objects, policies and certificates."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.admin.cli._declaring import kind_in
from gateway.admin.cli._isolating import be_undumpable
from gateway.admin.cli.output import Failed, visible
from gateway.app import StartFailed, serve
from gateway.config import ConfigError, load_objects, load_settings
from gateway.logs import configure


@click.command(epilog="Example: trailgate serve --config /etc/trailgate/trailgate.yaml")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default="trailgate.yaml",
    show_default=True,
    help="The settings.",
)
@click.option(
    "--delete",
    "deleted",
    metavar="KIND/NAME",
    multiple=True,
    help="First delete this declared object, on all nodes: one that stops the start. Repeatable.",
)
def command(path: Path, deleted: tuple[str, ...]) -> None:
    """Run the gateway until SIGTERM or SIGINT; then it drains and ends.

    Exit codes: 0 ended as asked, 1 ended because the record failed, 2 could not start.
    """
    without = [_named(one) for one in deleted]
    if not path.exists():
        raise Failed(
            f"there are no settings at {path}",
            "name them: --config FILE; trailgate init makes some",
        )
    try:
        settings, warnings = load_settings(path.absolute())
        objects, more = load_objects(settings.objects)
    except ConfigError as error:
        raise Failed(f"the settings are wrong:\n{error}", "trailgate doctor shows more") from error
    for warning in (*warnings, *more):
        click.echo(f"warning: {warning}", err=True)
    be_undumpable(cores=False)
    configure(settings.log_level)
    try:
        sound = serve(settings, objects, without)
    except StartFailed as error:
        raise Failed(str(error), error.cure) from error
    if not sound:
        raise Failed("the record failed, so the gateway ended", "the log has the cause", 1)


def _named(text: str) -> tuple[str, str]:
    """KIND/NAME of an object. Raises Failed."""
    kind, slash, name = text.partition("/")
    if not slash or not name:
        raise Failed(f"--delete {visible(text)}: that names no object", "write KIND/NAME")
    return kind_in(kind), name


COMMAND = command
