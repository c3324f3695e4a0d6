# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of commands: each summary is shown whole, and a mistyped name is told its nearest."""

from __future__ import annotations

import difflib

import click


class Group(click.Group):
    """A group that click would show with summaries cut to a line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, summary(one)) for name, one in found if one is not None and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(unknown(name, self.list_commands(ctx), ctx.command_path))
        return super().resolve_command(ctx, args)


def summary(command: click.Command) -> str:
    """The first sentence of a command's help."""
    return command.get_short_help_str(limit=1000)


def unknown(name: str, known: list[str], path: str) -> str:
    """What to say of a command that there is not."""
    nearest = difflib.get_close_matches(name, known, 1, 0.5)
    cure = f"did you mean {nearest[0]}?" if nearest else f"{path} --help lists them"
    return f"there is no command {name!r}; {cure}"
