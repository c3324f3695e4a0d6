# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command, option, exit code and variable is documented, and no other is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.admin.cli import root
from tests.pages import (
    CLOUD,
    COMMANDS,
    GATEWAY,
    OURS,
    blocks,
    commands,
    pages,
    prose,
    table,
    words,
)


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its path behind `trailgate`."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command, info_name="trailgate")
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None, name
        yield from tree(inner, (*path, name))


TREE = dict(tree(root))


def long_options(command: click.Command) -> dict[str, list[str] | None]:
    """Long options, each with its choices if it has any."""
    return {
        name: choices if len(choices := list(getattr(option.type, "choices", ()))) > 1 else None
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }


def synopses() -> dict[str, str]:
    """Command path to its synopsis, with RECORD and NARROW written out."""
    (block,) = [one for one in blocks(COMMANDS, "text") if one.text.startswith("trailgate")]
    lines = re.sub(r"\n +", " ", block.text).splitlines()
    short = {one.split()[0]: one.split(None, 1)[1] for one in lines if one[:1].isupper()}
    found = {}
    for line in lines:
        if line.startswith("trailgate "):
            path = re.match(r"trailgate ((?:[a-z]+ )*[a-z]+(?:-[a-z]+)*)", line + " ")
            assert path is not None, line
            for name, options in short.items():
                line = line.replace(f"[{name}]", options)
            found[path[1]] = line
    return found


def written_options(synopsis: str) -> dict[str, list[str] | None]:
    pairs = re.findall(r"(--[a-z-]+)(?: ([^\s\]]+))?", synopsis)
    return {name: word.split("|") if "|" in word else None for name, word in pairs}


def test_every_command_has_its_synopsis_and_no_other_is_named() -> None:
    assert set(synopses()) == set(TREE)


@pytest.mark.parametrize("path", TREE)
def test_a_synopsis_has_every_option_and_choice(path: str) -> None:
    assert written_options(synopses()[path]) == long_options(TREE[path])


@pytest.mark.parametrize("path", TREE)
def test_every_commands_help_has_an_example(path: str) -> None:
    result = CliRunner().invoke(root, [*path.split(), "--help"])
    assert result.exit_code == 0
    assert re.search(r"^ *Examples?:", result.output, re.MULTILINE), result.output


def named_commands(page: Path) -> Iterator[tuple[str, str]]:
    """What stands behind `trailgate` in code, as one word and the next."""
    code = [*words(prose(page)), *(one.text for one in blocks(page))]
    for text in code:
        for found in re.finditer(r"(?:^|[\s/])trailgate ([a-z]+)(?: ([a-z]+(?:-[a-z]+)*))?", text):
            yield found[1], found[2] or ""


def test_commands_named_anywhere_exist() -> None:
    groups = {path.partition(" ")[0] for path in TREE if " " in path}
    seen = set()
    for page in pages():
        for first, second in named_commands(page):
            known = f"{first} {second}" in TREE if first in groups else first in TREE
            assert known, f"{page.name}: trailgate {first} {second}"
            seen.add(first)
    assert seen == {path.partition(" ")[0] for path in TREE}


@pytest.mark.parametrize(
    ("place", "line"),
    [one for page in OURS for block in blocks(page, "sh") for one in commands(block)],
)
def test_options_of_the_shell_examples_exist(place: str, line: str) -> None:
    for part in re.split(r"(?<= -- )|\| ", line):
        called = r"(?:\$ |/opt/trailgate/bin/)?trailgate ([a-z]+(?: [a-z]+(?:-[a-z]+)*)?)"
        given = re.match(called, part)
        if given is None:
            continue
        path = given[1] if given[1] in TREE else given[1].split()[0]
        own = part.partition(" -- ")[0]
        options = re.findall(r"(?<= )--[a-z-]+(?=[ =\n]|$)", own)
        assert set(options) <= set(long_options(TREE[path])), place


LEFT_OUT = {
    ("demo", "--keep"): "it ends by Ctrl-C; a live test plays it",
    ("config pg", "--renew"): "it ends by a signal; a live test plays it",
    ("init", "--yes"): "tests/cloud adds it to the example, since nobody is there to ask",
    **{
        ("login", option): "it needs a browser; tests/live/test_logins.py plays docs/logins.md"
        for option in ("--issuer", "--device", "--no-browser", "--status", "--output")
    },
}
"""Options without an example in a block that is run."""


def test_every_option_stands_in_an_example_that_is_run() -> None:
    shown = {(path, option) for path in TREE for option in example_options(path)}
    known = {(path, option) for path in TREE for option in long_options(TREE[path])}
    assert known - shown == set(LEFT_OUT)


def example_options(path: str) -> set[str]:
    found: set[str] = set()
    for page in [*OURS, CLOUD]:
        for block in blocks(page, "sh"):
            for _, line in commands(block):
                for part in re.split(r"(?<= -- )|\| ", line):
                    if re.match(rf"trailgate {path}\b", part):
                        own = part.partition(" -- ")[0]
                        found |= set(re.findall(r"(?<= )--[a-z-]+(?=[ =\n]|$)", own))
                        found |= {"--output"} if " -o " in own else set()
    return found


def test_the_verifier_alone_has_the_options_of_verify() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.verify", "--help"], capture_output=True, text=True
    )
    shown = set(re.findall(r"--[a-z-]+", done.stdout)) - {"--help"}
    assert shown == set(long_options(TREE["verify"]))


def test_exit_codes_are_told_for_every_command() -> None:
    found = table(COMMANDS, "Exit codes")
    told = [path for row in found.rows for path in words(row[0])]
    assert sorted([*told, "run", "connect"]) == sorted(TREE)


def test_exit_codes_that_need_no_gateway(tmp_path: Path) -> None:
    def code(*arguments: str) -> int:
        return CliRunner().invoke(root, list(arguments)).exit_code

    place = tmp_path / "place"
    policy = place / "policies"
    none = str(tmp_path / "none")
    assert code("init", "--dir", str(place), "--data", str(tmp_path / "data")) == 0
    assert code("init", "--dir", str(place)) == 2
    assert code("policy", "lint", str(policy)) == code("policy", "test", str(policy)) == 0
    (policy / "wrong.yaml").write_text("policy: wrong\nrules: 7\n")
    assert code("policy", "lint", str(policy)) == code("policy", "test", str(policy)) == 1
    explain = ("policy", "explain", "--policy", str(policy / "read-only.yaml"))
    assert code(*explain, "--target", "orders", "--sql", "drop table x") == 0
    assert code(*explain, "--target", "orders") == 2
    assert code("policy", "explain", "--policy", str(policy), "--target", "a", "--sql", "b") == 1
    assert code("serve", "--config", none) == 2
    assert code("doctor", "--config", none) == 1
    assert code("try", "mysql://somewhere/x") == 2
    for command in ("token", "grants list", "grants tree", "grants revoke g_1", "sessions kill x"):
        assert code(*command.split(), "--data", none) == 2, command
    assert code("audit", "export", "--format", "tlog-proof", "x", "--data", none) == 2
    for command in ("sessions list", "sessions tree", "sessions show x", "audit replay x"):
        assert code(*command.split(), "--data", none) == 2, command
    for command in ("credentials list", "credentials drop x", "credentials rewrap"):
        assert code(*command.split(), "--data", none) == 2, command
    for command in ("audit who", "audit violations", "audit query x"):
        assert code(*command.split(), "--data", none) == 2, command
    assert code("audit", "rebuild-lake", "--to", str(tmp_path / "lake"), "--data", none) == 2
    for command in ("node request", "node rotate", f"node install {policy / 'wrong.yaml'}"):
        assert code(*command.split(), "--data", none) == 2, command
    assert code("node", "certify", str(policy / "wrong.yaml"), "--root", none) == 2
    assert code("node", "trust", "--root", str(policy / "wrong.yaml")) == 2
    assert code("node", "retire", "--config", none) == 2
    assert code("verify", none) == 2
    assert code("run", "--as", "reader", "--data", none, "--", "true") == 125
    assert code("run", "--what") == code("connect", "--data", none, "orders") == 125
    assert code("config", "pg", "--data", none) == 2
    assert code("verify", "--what") == 2


def test_environment_variables() -> None:
    source = "".join(path.read_text("utf-8") for path in GATEWAY.rglob("*.py"))
    used = set(re.findall(r"TRAILGATE_[A-Z]+(?:_[A-Z]+)*", source))
    found = table(COMMANDS, "Environment")
    assert {word for row in found.rows for word in words(row[0])} == used
    for path, command in TREE.items():
        for option in command.params:
            if "--data" in option.opts:
                told = path in ("init", "doctor")
                assert (option.envvar != "TRAILGATE_DATA") == told, path
