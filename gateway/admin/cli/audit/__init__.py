# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what was recorded, and ask it questions."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

from gateway.admin.cli._groups import Group

_COMMANDS: Mapping[str, str] = {
    "export": "export:export",
    "open": "open_:open_pages",
    "query": "lake:query",
    "rebuild-lake": "lake:rebuild_lake",
    "reconcile": "reconcile:reconcile",
    "replay": "replay:replay",
    "violations": "who:violations",
    "who": "who:who",
}
"""Command to module and name, imported only when it is called."""


class _Audit(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _, command = _COMMANDS[name].partition(":")
        found = getattr(importlib.import_module(f"{__name__}.{module}"), command)
        return found if isinstance(found, click.Command) else None


@click.group(
    cls=_Audit,
    epilog="""\b
Examples:
  trailgate audit replay kq3v --data ./data
  trailgate audit who --table customers --data ./data
  trailgate audit violations --data s3://evidence/prod -o jsonl

Exit codes: 0 done, 1 the answer is no, 2 could not be done.""",
)
def audit() -> None:
    """Read what was recorded, and ask it questions."""


COMMAND = audit
