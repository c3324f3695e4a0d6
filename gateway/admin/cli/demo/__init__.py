# SPDX-License-Identifier: GPL-3.0-or-later
"""A story on a real PostgreSQL: a person, her agents, a refusal, the record, its proof."""

from __future__ import annotations

from pathlib import Path

import click
import uvloop

from gateway.admin.cli._embedded import data_folder
from gateway.admin.cli.demo.postgres_server import NoServer
from gateway.admin.cli.demo.story import StoryFailed, play
from gateway.admin.cli.demo.telling import Narrator, tell
from gateway.admin.cli.options import data_option
from gateway.admin.cli.output import Failed, print_json
from gateway.app import StartFailed
from gateway.logs import configure

_FOR_MACHINES = ("ok", "data", "tree", "sessions", "denied", "verification")


@click.command("demo", epilog="Example: trailgate demo --keep")
@click.option("--keep", is_flag=True, help="Stay up after the story, for you to try, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the result for a machine, only.")
@data_option
def command(keep: bool, as_json: bool, data: Path | None) -> None:
    """A story on a real PostgreSQL: a person, her agents, a refusal, the record, its proof.

    Needs nothing but this machine: the server, the OpenID issuer and the gateway are its own, on
    loopback. Exit codes: 0 all happened as told, 1 it did not, 2 could not start.
    """
    configure("error")
    narrator = Narrator(silent=as_json)
    try:
        folder = data_folder(data, "demo")
        document = uvloop.run(play(folder, keep=keep, narrator=narrator))
    except (NoServer, StoryFailed, OSError) as error:
        raise Failed(f"the demo could not be played: {error}") from error
    except StartFailed as error:
        raise Failed(str(error), error.cure) from error
    if as_json:
        print_json({key: document[key] for key in _FOR_MACHINES})
    else:
        tell(document, narrator)
    if not document["ok"]:
        raise Failed("not all of the story happened as told", f"look into {folder}", 1)


COMMAND = command
