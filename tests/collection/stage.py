# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as it is published, in a folder: python -m tests.collection.stage FOLDER.

ansible-test refuses a checkout that is linked or not below ansible_collections/, and sees no module
behind a link: so what belongs to the collection is copied to
FOLDER/ansible_collections/trailgate/gateway, links followed.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "galaxy.yml",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "meta",
    "playbooks",
    "plugins",
    "roles",
)


def stage(folder: Path) -> Path:
    """Copy what belongs to the collection; where it lies then."""
    place = folder / "ansible_collections" / "trailgate" / "gateway"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, place / part)
    return place


if __name__ == "__main__":
    print(stage(Path(sys.argv[1])))
