# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the import laws of pyproject.toml into ARCHITECTURE.md; `--check` compares only."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- arrows: drawn from pyproject.toml -->\n", "<!-- end of arrows -->"


def drawn() -> str:
    laws = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(law["layers"] for law in laws["contracts"] if law["type"] == "layers")
    rows = [layer.replace("gateway.", "") for layer in layers]
    return "```\n" + "\n  may import\n".join(rows) + "\n\nverify stands alone\n```\n"


def main() -> int:
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    tail = rest[rest.index(END) :]
    wanted = head + BEGIN + drawn() + tail
    if "--check" in sys.argv:
        if text != wanted:
            print("ARCHITECTURE.md: the arrows are old; run: python -m tests.drawn_arrows")
        return int(text != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
