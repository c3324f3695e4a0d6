# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the verifier one file: `python -m gateway.verify.build OUT`. The same bytes every time."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_MAIN = """\
import sys
from gateway.verify.__main__ import main
sys.exit(main())
"""


def build(out: Path) -> None:
    """Write a zipapp that needs Python 3.11 and `cryptography`, nothing else of this package."""
    files = {"__main__.py": _MAIN, "gateway/__init__.py": ""}
    for path in sorted(_HERE.glob("*.py")):
        if path.name != "build.py":
            files[f"gateway/verify/{path.name}"] = path.read_text("utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                # A fixed date, so that anyone can build the same file and compare.
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    out.chmod(0o755)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m gateway.verify.build OUT")
    build(Path(sys.argv[1]))
