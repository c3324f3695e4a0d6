# SPDX-License-Identifier: GPL-3.0-or-later
"""How the demo is told: progress while it plays, and what came of it, for a person."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from shutil import which
from typing import Any

import click

from gateway.admin.cli._render import cleaner, operation_lines, tree_lines


class Narrator:
    """Progress lines on standard error; colour only on a terminal (click sees to it)."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        if not self.silent:
            seconds = time.monotonic() - self._started
            click.echo(click.style(f"{seconds:5.1f} s  ", dim=True) + text, err=True)


def tell(document: dict[str, Any], narrator: Narrator) -> None:
    """The tree of who did what, one session's replay, the verification, where to look."""
    data = document["data"]
    _title("Who did what")
    for line in tree_lines(document["tree"]):
        click.echo(line)
    for session in document["replays"]:
        who = " > ".join(session["session"]["chain"])
        _title(f"What {who} did (session {session['session']['id']})")
        for operation in session["operations"]:
            for line in operation_lines(operation, cleaner(raw=False)):
                click.echo(line)
    _title("Is the record sound?")
    verification = document["verification"]
    checked = verification.get("checked") or {}
    mark = click.style("yes", fg="green") if verification["ok"] else click.style("NO", fg="red")
    counts = ", ".join(f"{value} {key}" for key, value in checked.items())
    click.echo(f"  {mark}: {counts} checked; every payload was opened and its digest compared")
    for defect in verification.get("defects") or ():
        click.secho(f"  {defect['object']}: {defect['kind']}: {defect['detail']}", fg="red")
    _title("Look for yourself")
    if (place := Path(sys.executable).parent / "activate").exists() and not which("trailgate"):
        click.echo(f"  . {place}")
    click.echo(f"  trailgate sessions tree --data {data}")
    click.echo(f"  trailgate audit replay SESSION --data {data}")
    click.echo(f"  trailgate verify {data} --identity {data}/auditor/identity")
    click.echo("  trailgate try postgresql://USER@HOST/DB      (in front of your own server)\n")


def _title(text: str) -> None:
    click.secho(f"\n{text}", bold=True)
