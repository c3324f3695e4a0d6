# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what native clients need to find each target by its name, and keep it fresh."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import click

from gateway.admin.cli._authority import Authority
from gateway.admin.cli._clients import Access, Configuration, NativeClient, clients
from gateway.admin.cli._groups import Group
from gateway.admin.cli._processes import say
from gateway.admin.cli.childs_world import ca_file
from gateway.admin.cli.client import gateway_for, seconds
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import Failed, print_json
from gateway.admin.cli.token import write_private

GROUP_HELP = "A group of the local user (with --data)."
EXPIRES_HELP = "How long the local user's token lives (with --data)."
LOOK_EVERY = 5.0
"""Seconds between looks at the token, the targets and the CA."""


@click.group(
    cls=Group,
    epilog="""\b
Example:
  trailgate config pg --data ./data --group data-agents --dir clients

Exit codes: 0 written, 1 refused, 2 could not be done.""",
)
def config() -> None:
    """Write what native clients need to find each target by its name."""


@dataclass
class Kept:
    """One client's files in a folder of their own."""

    client: NativeClient
    authority: Authority
    folder: Path

    def write(self) -> dict[str, Any]:
        """Bring the files up to date; what is right already is not touched. Raises Failed."""
        token = self.authority.token()
        own = self.authority.own(token)
        _private(self.folder)
        access = Access(token, self.folder, self._ca(own))
        targets = [one for one in own["targets"] if one["protocol"] == self.client.protocol]
        made = self.client.configure(targets, access)
        for name, text in made.files.items():
            _put(self.folder / name, text)
        return self._document(made, own, [str(one["name"]) for one in targets])

    def _ca(self, own: Mapping[str, Any]) -> str | None:
        path = self.folder / "ca.pem"
        if os.environ.get("TRAILGATE_CA_PATH") or not own.get("ca_pem"):
            return ca_file(os.environ, own, self.folder)
        _put(path, own["ca_pem"])
        return str(path)

    def _document(
        self, made: Configuration, own: Mapping[str, Any], targets: list[str]
    ) -> dict[str, Any]:
        return {
            "files": [str(self.folder / name) for name in made.files],
            "targets": targets,
            "env": dict(made.environment),
            "commands": list(made.usage),
            "expires": own["expires"],
        }


def _private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        cure = "name a folder that you may write: --dir DIR"
        raise Failed(f"{folder}: {error.strerror}", cure) from None


def _put(path: Path, text: str) -> None:
    """Who has the file open, or reads it now, sees the old one whole."""
    if not path.is_symlink() and path.is_file() and path.read_text("utf-8") == text:
        return
    write_private(path, text)


def default_folder(client: NativeClient) -> Path:
    """Beside the user's other settings, as the XDG base directories have it."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "trailgate" / client.name


def _show(document: dict[str, Any], output: str) -> None:
    if output == "json":
        print_json(document)
        return
    for path in document["files"]:
        click.echo(f"# wrote {path}", err=True)
    for name, value in document["env"].items():
        click.echo(f"export {name}={quote(value)}")
    for line in document["commands"]:
        click.echo(line)


def _renew(kept: Kept) -> None:
    """Until a signal: what fails is tried again, for the token's file is renewed as well."""
    ended, said = threading.Event(), ""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(LOOK_EVERY):
        try:
            kept.write()
            said = ""
        except Failed as failed:
            if failed.message != said:
                say(f"{kept.folder} was not renewed: {failed.message}")
            said = failed.message


def _command(client: NativeClient) -> click.Command:
    @click.command(
        name=client.name,
        help=f"For clients of {client.protocol}: files in one folder, each its owner's alone.",
        epilog=f"""\b
Examples:
  trailgate config {client.name} --dir clients
  trailgate config {client.name} --dir clients --renew

Exit codes: 0 written, 1 refused, 2 could not be done.""",
    )
    @click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="The files' folder. Default: ~/.config/trailgate/CLIENT.",
    )
    @click.option("--renew", is_flag=True, help="Stay, and keep the files fresh.")
    @click.option("--group", "groups", multiple=True, help=GROUP_HELP)
    @click.option("--expires", default="1h", show_default=True, metavar="TIME", help=EXPIRES_HELP)
    @data_option
    @output_option("text", "json")
    def write(
        folder: Path | None,
        renew: bool,
        groups: tuple[str, ...],
        expires: str,
        data: Path | None,
        output: str,
    ) -> None:
        authority = Authority(gateway_for(data), groups, seconds(expires))
        kept = Kept(client, authority, (folder or default_folder(client)).absolute())
        _show(kept.write(), output)
        if renew:
            _renew(kept)

    return write


for _client in clients().values():
    config.add_command(_command(_client))

COMMAND = config
