# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages are plain, linked and current: drawings, trees, make targets, the systemd unit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import (
    ARCHITECTURE,
    GATEWAY,
    OPERATIONS,
    OURS,
    README,
    ROOT,
    anchors,
    blocks,
    links,
    pages,
    words,
)

LANGUAGES = {"sh", "yaml", "json", "ini", "text"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_between_pages_resolve(page: Path) -> None:
    for link in links(page):
        if not link.startswith(("https://", "http://")):
            name, _, anchor = link.partition("#")
            there = (page.parent / name).resolve() if name else page
            assert there.is_file(), link
            assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("page", OURS, ids=lambda page: page.name)
def test_a_page_is_plain_to_read(page: Path) -> None:
    assert [line for line in page.read_text("utf-8").splitlines() if len(line) > 120] == []
    named = {one.language for one in blocks(page)} - ({""} if page == ARCHITECTURE else set())
    assert named <= LANGUAGES


def test_the_readme_begins_with_the_demo() -> None:
    first = blocks(README, "sh")[0]
    assert first.text == "make demo\n"
    assert re.search(
        r"^demo:.*\n\t@\$\(BIN\)/trailgate demo$", (ROOT / "Makefile").read_text(), re.M
    )
    linked = {(ROOT / link).resolve() for link in links(README) if link.endswith(".md")}
    readers = {path for path in (ROOT / "docs").glob("*.md") if path.name != "client-suites.md"}
    assert readers <= linked


def test_make_targets_that_are_named_exist() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in OURS:
        text = page.read_text("utf-8")
        named = re.findall(r"(?:`|^)make ([a-z]+)(?=`|$)", text, re.MULTILINE)
        assert set(named) <= made, page.name


# --- architecture --------------------------------------------------------------------------------


def drawn_paths() -> list[Path]:
    """What the drawn tree names at the beginning of a line, two spaces a level."""
    (block,) = blocks(ARCHITECTURE, "text")
    found: list[Path] = []
    above: list[Path] = [ROOT]
    for line in block.text.splitlines():
        match = re.match(r"((?:  ){0,2})([\w.]+(?:\.py|/))", line)
        if match is not None:
            depth = len(match[1]) // 2
            above[depth + 1 :] = [above[depth] / match[2]]
            found.append(above[-1])
    return found


def test_the_drawn_tree_is_there_and_has_every_part() -> None:
    drawn = drawn_paths()
    assert [path for path in drawn if not path.exists()] == []
    parts = [path for path in GATEWAY.iterdir() if path.suffix == ".py" or path.is_dir()]
    missing = {path for path in parts if path.name not in ("__init__.py", "__pycache__")}
    assert missing - {path.resolve() for path in drawn} == set()


def test_files_and_folders_that_the_architecture_names_are_there() -> None:
    text = ARCHITECTURE.read_text("utf-8")
    for name in set(re.findall(r"[\w/]+\.py\b", text)):
        places = (ROOT / name, GATEWAY / name, *GATEWAY.rglob(Path(name).name))
        good = [one for one in places if one.is_file() and str(one).endswith(f"/{name}")]
        assert good, name
    for name in {word for word in words(text) if re.fullmatch(r"[\w/]+/", word)}:
        assert (ROOT / name).is_dir() or (GATEWAY / name).is_dir(), name


def test_the_drawn_arrows_are_the_laws() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.drawn_arrows", "--check"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stdout


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed here")
    (block,) = blocks(OPERATIONS, "ini")
    # verify looks for the program: it is this one here.
    here = block.text.replace("/opt/trailgate/bin/trailgate", sys.executable)
    assert here != block.text
    unit = tmp_path / "trailgate.service"
    unit.write_text(here)
    done = subprocess.run([tool, "verify", str(unit)], capture_output=True, text=True, timeout=60)
    about_us = [line for line in done.stderr.splitlines() if "trailgate" in line]
    assert (done.returncode, about_us) == (0, [])
    unit.write_text(here.replace("ProtectClock", "ProtectClocks"))
    wrong = subprocess.run([tool, "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert "ProtectClocks" in wrong.stderr
