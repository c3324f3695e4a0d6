# SPDX-License-Identifier: GPL-3.0-or-later
"""`run --isolate uid` where the command, or Trailgate itself, is closed to its user."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.admin.cli._reachable import closed_to_others, what_stops

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts another user's process")
R, X = stat.S_IROTH, stat.S_IXOTH


@pytest.fixture
def opened() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="tg-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def script(folder: Path, mode: int = 0o755, interpreter: str = "/bin/sh") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "agent"
    path.write_text(f"#!{interpreter}\necho started\n")
    path.chmod(mode)
    return path


def test_the_first_closed_place_on_the_way_is_named(opened: Path) -> None:
    program = script(opened / "tools")
    assert closed_to_others(program, R | X) is None
    program.chmod(0o744)
    assert closed_to_others(program, X) == program
    assert closed_to_others(program, R) is None
    (opened / "tools").chmod(0o754)
    assert closed_to_others(program, R) == opened / "tools"
    assert closed_to_others(opened / "gone" / "x", R) == opened / "gone"


def test_a_link_into_a_closed_folder_is_followed(opened: Path) -> None:
    program = script(opened / "home")
    link = opened / "agent"
    link.symlink_to(program)
    assert what_stops([str(link)], None) is None
    (opened / "home").chmod(0o700)
    assert what_stops([str(link)], None) == opened / "home"


def test_the_interpreter_of_a_script_counts(opened: Path) -> None:
    interpreter = script(opened / "venv")
    script(opened / "bin", interpreter=f"{interpreter} -x")
    search = str(opened / "bin")
    assert what_stops(["agent"], search) is None
    (opened / "venv").chmod(0o750)
    assert what_stops(["agent"], search) == opened / "venv"
    assert what_stops(["no-such-command"], search) is None, "that is told by whoever starts it"


def isolated(api: Any, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "gateway", "run", "--as", "a", "--isolate", "uid", "--"]
    env = api.environment(**more)
    return subprocess.run([*words, *command], env=env, capture_output=True, text=True, timeout=60)


@as_root
def test_a_command_that_is_closed_is_told_with_the_cure_before_anything_is_given(
    api: Any, opened: Path
) -> None:
    program, token = script(opened / "home"), api.sign("closed-out")
    assert isolated(api, str(program), TRAILGATE_TOKEN=token).stdout == "started\n"
    (opened / "home").chmod(0o700)
    told = isolated(api, str(program), TRAILGATE_TOKEN=token)
    assert (told.returncode, told.stdout) == (126, "")
    assert f"may not enter or read {opened / 'home'}" in told.stderr
    assert "next: install trailgate" in told.stderr and "--isolate namespace" in told.stderr
    (top,) = api.get("/api/v1/grants", token).json()
    assert len(top["children"]) == 1, "the refused one was given no grant"


@as_root
def test_a_nested_run_of_a_closed_installation_is_told_and_has_no_traceback(
    api: Any, opened: Path
) -> None:
    site = opened / "site"
    shutil.copytree(Path(gateway.__file__).parent, site / "gateway")
    site.chmod(0o700)
    more = {"TRAILGATE_TOKEN": api.sign("nested"), "PYTHONPATH": str(site)}
    inner = (sys.executable, "-m", "gateway", "run", "--as", "b", "--", "true")
    words = [sys.executable, "-m", "gateway", "run", "--as", "a", "--isolate", "uid", "--"]
    told = subprocess.run(
        [*words, *inner], env=api.environment(**more), cwd=opened, capture_output=True, text=True
    )
    assert told.returncode == 126 and "Traceback" not in told.stderr, told.stderr
    assert "may not enter or read" in told.stderr and "next: install trailgate" in told.stderr
    # Within a shell it cannot be seen beforehand, so it is said as it starts.
    told = subprocess.run(
        [*words, "sh", "-c", "exit 3"],
        env=api.environment(**more),
        cwd=opened,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 3 and "note: should the command start trailgate" in told.stderr
