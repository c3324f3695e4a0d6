# SPDX-License-Identifier: GPL-3.0-or-later
"""The real hashicorp/aws provider from a plugin mirror on this machine, since none is fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

SETTING = "TRAILGATE_TERRAFORM_PLUGINS"
USUAL = (
    "~/.terraform.d/plugins",
    "~/.local/share/terraform/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
)
MISSING = (
    f"no plugin mirror with hashicorp/aws is on this machine: set {SETTING} to one (the folder"
    " that `terraform providers mirror` fills), or fill one of Terraform's usual plugin folders"
)


def mirror() -> Path | None:
    """A folder HOST/hashicorp/aws/... lies in: the setting's, a usual one, or one below /opt."""
    return next((folder for folder in _candidates() if _holds_aws(folder)), None)


def _candidates() -> Iterator[Path]:
    if named := os.environ.get(SETTING):
        yield Path(named)
        return
    yield from (Path(usual).expanduser() for usual in USUAL)
    yield from sorted(Path("/opt").glob("*"))


def _holds_aws(folder: Path) -> bool:
    return any(folder.glob("*/hashicorp/aws/*"))


def why_not() -> str:
    """Why Terraform cannot run here with the provider; empty: it can."""
    if shutil.which("terraform") is None:
        return "terraform is not on PATH: install Terraform 1.9 or newer"
    return "" if mirror() else MISSING


def environment(folder: Path) -> dict[str, str]:
    """What makes Terraform take its providers from the mirror, and from nowhere else."""
    found = mirror()
    assert found is not None, MISSING
    config = folder / "terraform.rc"
    config.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{found}"\n  }}\n}}\n'
    )
    return {
        "TF_CLI_CONFIG_FILE": str(config),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
    }
