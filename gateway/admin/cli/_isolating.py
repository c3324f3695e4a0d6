# SPDX-License-Identifier: GPL-3.0-or-later
"""How far `run` keeps a child apart: not at all, by a user of its own, or by namespaces."""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.admin.cli._processes import say
from gateway.admin.cli._reachable import installation_stops, what_stops
from gateway.admin.cli.output import Failed

CHOICES = ("uid", "namespace")
WIDE = range(1_950_000_000, 1_951_000_000)
"""User ids that no distribution, container engine or systemd gives away."""
NARROW = range(61_184, 65_520)
"""systemd's for users that live as long as a process; for containers that map no others."""
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4


def be_undumpable(*, cores: bool = True) -> None:
    """No process of this user may read this one's memory or environment: they hold its token.

    Lasts until exec, so this process stays the command's parent and does not become it. With
    `cores=False` its children leave no core, either.
    """
    if not cores:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 or libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise Failed(f"prctl failed: {os.strerror(ctypes.get_errno())}", "run on Linux proper")


@dataclass(frozen=True, slots=True)
class Isolation:
    """What is told to the gateway, and what is done."""

    name: str = "none"
    user: int | None = None
    """The child's user and group id; None: the parent's."""

    def command(self, command: Sequence[str]) -> list[str]:
        if self.name != "namespace":
            return list(command)
        program = Path(__file__).with_name("_isolated.py")
        return [sys.executable, "-I", str(program), *command]

    def check(self, command: Sequence[str]) -> None:
        """Whether the child's user could start the command. SystemExit 126 where it cannot; a word
        of warning where only a `trailgate` within it could not be started."""
        if self.user is None:
            return
        if (stops := what_stops(command, os.environ.get("PATH"))) is not None:
            say(_closed(f"{command[0]}: the user that --isolate uid makes", stops))
            raise SystemExit(126)
        if (stops := installation_stops()) is not None:
            say("note: " + _closed("should the command start trailgate: its user", stops))

    def give(self, folder: Path) -> None:
        """Let the child have its files."""
        if self.user is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, self.user, self.user)

    def environment(self, env: Mapping[str, str], folder: Path) -> dict[str, str]:
        """Another user has another home: the folder of its files, which goes with it."""
        if self.user is None:
            return dict(env)
        named = f"trailgate-{self.user}"
        return {**env, "HOME": str(folder), "USER": named, "LOGNAME": named}

    def arguments(self) -> dict[str, Any]:
        """Of subprocess."""
        if self.user is None:
            return {}
        return {"user": self.user, "group": self.user, "extra_groups": []}


def _closed(who: str, stops: Path) -> str:
    return (
        f"{who} may not enter or read {stops}\n"
        "  next: install trailgate, and what it is to run, where every user may read it"
        " (/opt/trailgate), or use --isolate namespace"
    )


def isolation(asked: str | None) -> Isolation:
    """Raises Failed where this machine, or this user, cannot."""
    if asked is None:
        return Isolation()
    if not sys.platform.startswith("linux"):
        raise Failed("--isolate needs Linux", "leave it out, or run the agent on Linux")
    if asked == "namespace":
        return Isolation(asked)
    if os.geteuid() != 0:
        raise Failed("only root may start another user's process", "use --isolate namespace")
    return Isolation(asked, fresh_user())


def fresh_user() -> int:
    """A user id that no process has, of those that this user namespace maps."""
    taken = _running()
    for ids in (WIDE, NARROW):
        if _is_mapped(ids):
            while (found := ids[secrets.randbelow(len(ids))]) in taken:
                continue
            return found
    raise Failed("this container maps no user ids to spare", "use --isolate namespace")


def _is_mapped(ids: range) -> bool:
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= ids.start and ids.stop <= first + count:
            return True
    return False


def _running() -> set[int]:
    """The users of all processes that are seen from here."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                found.add(entry.stat().st_uid)
            except FileNotFoundError:
                continue
    return found
