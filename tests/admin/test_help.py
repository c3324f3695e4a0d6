# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command tells of itself, and of a name that is not one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from gateway.admin.cli import root


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from tree(found, (*path, name))


PATHS = list(tree(root))


def shown(*words: str) -> str:
    done = CliRunner().invoke(root, list(words), env={"COLUMNS": "100"})
    return str(done.output)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_has_an_example_and_exit_codes(path: tuple[str, ...]) -> None:
    text = shown(*path, "--help")
    assert re.search(r"Examples?:|Start with:", text)
    assert "xit code" in text or path and path[0] in ("run", "connect")
    assert not re.search(r"\.\.\.$", text.partition("Options:")[2], re.MULTILINE), "cut short"


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    command: click.Command = root
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    for option in command.params:
        if isinstance(option, click.Option):
            assert (option.help or "").strip(), option.name


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("sesions",), "did you mean sessions?"),
        (("doctr",), "did you mean doctor?"),
        (("sessions", "lst"), "did you mean list?"),
        (("audit", "replai"), "did you mean replay?"),
        (("node", "certfy"), "did you mean certify?"),
        (("xyzzy",), "trailgate --help lists them"),
        (("grants", "xyzzy"), "trailgate grants --help lists them"),
    ],
)
def test_a_name_that_is_no_command_is_told_its_nearest(words: tuple[str, ...], cure: str) -> None:
    done = CliRunner().invoke(root, list(words), prog_name="trailgate")
    assert done.exit_code == 2
    assert f"there is no command '{words[-1]}'; {cure}" in done.output
