# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation as data: its pages, fenced blocks, tables and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPERATIONS = ROOT / "docs" / "operations.md"
SETTINGS = ROOT / "docs" / "settings.md"
NODES = ROOT / "docs" / "nodes.md"
MONITORING = ROOT / "docs" / "monitoring.md"
COMMANDS = ROOT / "docs" / "commands.md"
CLIENTS = ROOT / "docs" / "clients.md"
CLOUD = ROOT / "docs" / "cloud.md"
AUDITORS = ROOT / "docs" / "auditors.md"
CREDENTIALS = ROOT / "docs" / "credentials.md"
OBJECTS = ROOT / "docs" / "objects.md"
API = ROOT / "docs" / "api.md"
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"

OPERATING = [OPERATIONS, SETTINGS, NODES, MONITORING, COMMANDS]
OURS = [README, *OPERATING, CLIENTS, AUDITORS, CREDENTIALS, OBJECTS, API, ARCHITECTURE]
OURS += [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
"""The pages that these tests hold to every rule; the others have tests of their own, too."""
GATEWAY = ROOT / "gateway"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Everything that people read."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language and the line on which its text begins, counted from 1."""

    page: Path
    language: str
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(page, found[1], text.count("\n", 0, found.start(2)) + 1, found[2])
        for found in _FENCE.finditer(text)
        if language in (None, found[1])
    ]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a shell block, each with its place; a backslash joins lines."""
    waiting, started = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        started = started if waiting else number
        if line.endswith("\\"):
            waiting += line + "\n"
            continue
        if (waiting + line).strip():
            yield f"{block.page.name}:{started}", waiting + line
        waiting = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table below its heading: the first row, and the others."""

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(page: Path) -> list[Table]:
    heading, found, open_rows = "", [], []
    for line in [*prose(page).splitlines(), ""]:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|"):
            open_rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
        elif open_rows:
            found.append(Table(heading, open_rows[0], tuple(open_rows[2:])))
            open_rows = []
    return found


def table(page: Path, heading: str, head: str = "") -> Table:
    """The one table below a heading whose first column is named so. Raises ValueError."""
    (found,) = [
        one
        for one in tables(page)
        if one.heading.strip("`") == heading and one.head[0] == (head or one.head[0])
    ]
    return found


def words(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def links(page: Path) -> list[str]:
    return re.findall(r"\[[^\]]*\]\(([^)]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
