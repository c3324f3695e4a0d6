# SPDX-License-Identifier: GPL-3.0-or-later
"""Terraform by python-terraform, with typed results: each step is done, or raises.

python-terraform 0.10 answers (code, text, text) or None, cancels an apply that nobody confirms and
passes `destroy` an option that Terraform has no more; all of that stays in this file.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_terraform import IsFlagged
from python_terraform import Terraform as _Terraform

_PLAN = "trailgate.tfplan"
_SHOWN_LINES = 30
_NO_PROVIDER = ("Failed to query available provider packages", "Failed to install provider")


# What it would log of a failure is in the exception.
logging.getLogger("python_terraform").setLevel(logging.CRITICAL)


class TerraformFailed(Exception):
    """A step of Terraform failed: which, Terraform's own words, and what to do next."""

    def __init__(self, step: str, said: str, cure: str) -> None:
        super().__init__(f"terraform {step} failed" + (f":\n{said}" if said else ""))
        self.step = step
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Plan:
    """What an apply would do."""

    changes: bool
    path: Path
    """The saved plan: what is applied is what was shown."""


class Terraform:
    """A configuration in a folder. `show`: print what Terraform says as it says it."""

    def __init__(self, folder: Path, *, show: bool = False) -> None:
        if shutil.which("terraform") is None:
            raise TerraformFailed(
                "start",
                "the command terraform is not on PATH",
                "install Terraform 1.9 or newer, or make the buckets yourself and write"
                " `evidence: {to: s3://..., keys: s3://...}` into trailgate.yaml",
            )
        self._folder = folder
        self._show = show
        try:
            self._terraform = _Terraform(working_dir=str(folder))
        except ValueError:
            raise TerraformFailed(
                "start",
                f"{folder}: its state is no JSON",
                "restore terraform.tfstate from terraform.tfstate.backup beside it",
            ) from None

    def init(self) -> None:
        """Fetch providers and modules."""
        self._step("init", input=False, no_color=self._plain, backend=True)

    def plan(self, variables: Mapping[str, object]) -> Plan:
        """Work out what would change, and save it."""
        path = self._folder / _PLAN
        code = self._step(
            "plan",
            input=False,
            no_color=self._plain,
            detailed_exitcode=IsFlagged,
            out=str(path.absolute()),
            var=dict(variables),
        )
        return Plan(code == 2, path)

    def apply(self, plan: Plan) -> None:
        """Do what `plan` says; what was made before a failure stays in the state."""
        self._step("apply", str(plan.path.absolute()), input=False, no_color=self._plain)
        plan.path.unlink()

    def outputs(self) -> dict[str, Any]:
        """The outputs' values by name."""
        _, text = self._run("output", True, json=IsFlagged, no_color=IsFlagged)
        return {name: output["value"] for name, output in json.loads(text).items()}

    def destroy(self, variables: Mapping[str, object]) -> None:
        """Delete everything that the state knows."""
        self._step(
            "destroy",
            input=False,
            no_color=self._plain,
            auto_approve=IsFlagged,
            var=dict(variables),
        )

    @property
    def _plain(self) -> object:
        """The flag that takes colour away; None, which python-terraform drops, on a terminal."""
        return None if self._show and os.isatty(1) else IsFlagged

    def _step(self, step: str, *arguments: str, **options: object) -> int:
        code, _ = self._run(step, not self._show, *arguments, **options)
        return code

    def _run(self, step: str, capture: bool, *arguments: str, **options: object) -> tuple[int, str]:
        sys.stdout.flush()
        # What is shown goes to the terminal by itself; errors are kept, for the cure is in them.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as kept:
            with redirect_stderr(kept):
                code, out, err = self._terraform.cmd(
                    step, *arguments, capture_output=capture, **options
                )
            kept.seek(0)
            told = err or kept.read()
        if code == 0 or (step == "plan" and code == 2):
            if not capture:
                sys.stderr.write(told)
            return code, out or ""
        said = "\n".join((told or out or "").strip().splitlines()[-_SHOWN_LINES:])
        raise TerraformFailed(step, said, _cure(step, said, self._folder))


def _cure(step: str, said: str, folder: Path) -> str:
    if any(words in said for words in _NO_PROVIDER):
        return (
            "give Terraform a way to the hashicorp/aws provider: the network, or a plugin mirror"
            " named in the file behind TF_CLI_CONFIG_FILE (`provider_installation`)"
        )
    if step == "apply":
        return f"what was made is in {folder / 'terraform.tfstate'}: cure the cause, run it again"
    return "cure the cause and run it again; nothing was changed"
