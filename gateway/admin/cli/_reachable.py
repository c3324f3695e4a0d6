# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a user that owns nothing, and is in no group, from starting a program."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import gateway

_SHEBANG_BYTES = 4096
_INSTALLATION = [
    (Path(sys.executable), stat.S_IXOTH),
    (Path(os.__file__), stat.S_IROTH),
    (Path(gateway.__file__ or sys.executable), stat.S_IROTH),
]
"""What Trailgate needs to start: its interpreter, the library of that, and its code."""


def closed_to_others(path: Path, needed: int) -> Path | None:
    """The first folder on the way to `path` that others may not enter, or `path` itself where they
    lack `needed` (bits of stat); None if there is none. A link is followed as well."""
    for way in dict.fromkeys((Path(os.path.abspath(path)), path.resolve())):
        for folder in reversed(way.parents):
            if not _mode(folder) & stat.S_IXOTH:
                return folder
        if _mode(way) & needed != needed:
            return way
    return None


def what_stops(command: Sequence[str], search_path: str | None) -> Path | None:
    """What keeps others from starting a command; None: nothing that is seen from here."""
    found = shutil.which(command[0], path=search_path)
    if found is None:
        return None  # which whoever starts it is told
    program = Path(found)
    interpreter = _interpreter_of(program)
    if interpreter is None:
        needed = [(program, stat.S_IXOTH)]
    else:
        needed = [(program, stat.S_IROTH | stat.S_IXOTH), (interpreter, stat.S_IXOTH)]
    if _is_ours(command, program):
        needed += _INSTALLATION
    return _first_closed(needed)


def installation_stops() -> Path | None:
    """What keeps others from starting Trailgate itself."""
    return _first_closed(_INSTALLATION)


def _first_closed(needed: Iterable[tuple[Path, int]]) -> Path | None:
    found = (closed_to_others(path, bits) for path, bits in needed)
    return next((closed for closed in found if closed is not None), None)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _interpreter_of(program: Path) -> Path | None:
    """Of a script, by its first line (execve(2)); None for anything else."""
    try:
        with program.open("rb") as file:
            first = file.read(_SHEBANG_BYTES).split(b"\n", 1)[0]
    except OSError:
        return None
    words = first[2:].split() if first.startswith(b"#!") else []
    return Path(os.fsdecode(words[0])) if words else None


def _is_ours(command: Sequence[str], program: Path) -> bool:
    """Whether that is Trailgate again, from where this one is installed."""
    if tuple(command[1:3]) == ("-m", "gateway"):
        return True
    beside = (Path(sys.executable).parent, Path(sys.argv[0]).absolute().parent)
    return program.name == "trailgate" and program.absolute().parent in beside
