# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line. Each module or package in this folder that has a `COMMAND` is one command.

`COMMAND` is a `click.Command` or `click.Group`. The command's name is the module's, with trailing
underscores dropped (`try_.py` is `trailgate try`). A module is imported only when its command is
called or its help is asked for, so `trailgate --help` reads the first line of each module's
docstring and imports none. Exit codes: 0 done, 1 the answer is no, 2 could not be done.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from importlib.resources import files
from pathlib import Path

import click

import gateway
from gateway.admin.cli._groups import Group

_INNER = {"output", "options"}


def _modules() -> dict[str, str]:
    """Command name to module name."""
    names = (info.name for info in pkgutil.iter_modules(__path__))
    return {name.rstrip("_"): name for name in names if name not in _INNER and name[0] != "_"}


class Commands(Group):
    """The root group: finds commands by looking at this folder, and imports the one called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for name, module in _modules().items() if _summary(module))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        module = _modules().get(name)
        if module is None:
            return None
        command = getattr(importlib.import_module(f"{__name__}.{module}"), "COMMAND", None)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _summary(module)) for name, module in sorted(_modules().items())]
        with formatter.section("Commands"):
            if shown := [(name, line) for name, line in rows if line]:
                formatter.write_dl(shown)


def _summary(module: str) -> str:
    """The first line of a module's docstring, not imported; empty if it has no command."""
    folder = Path(str(files(gateway))) / "admin" / "cli"
    path = folder / f"{module}.py"
    text = (path if path.is_file() else folder / module / "__init__.py").read_text("utf-8")
    if "COMMAND" not in text:
        return ""
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Start with:
  trailgate demo
  trailgate try postgresql://USER@HOST/DB

Exit codes: 0 done, 1 the answer is no, 2 could not be done; run and connect end as their command
does.""",
)
@click.version_option(gateway.__version__, prog_name="trailgate")
def root() -> None:
    """Trailgate: the gateway that records and proves who did what."""
