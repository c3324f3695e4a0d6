# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence buckets of `trailgate init --aws`: shown, asked for, made by Terraform."""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

import gateway
from gateway.admin.cli._terraform import Terraform, TerraformFailed
from gateway.admin.cli.output import Failed

_EXAMPLE = Path("examples") / "single_node"
_MODULE = Path("modules") / "evidence_bucket"
_VARIABLES = "terraform.tfvars.json"
_ROLE_VARS_PREFIX = "trailgate_evidence_"


@dataclass(frozen=True, slots=True)
class Buckets:
    """What is asked for: NAME-evidence, NAME-keys and NAME-lake in a region."""

    name: str
    region: str
    auditor_arns: tuple[str, ...] = ()

    def variables(self) -> dict[str, object]:
        return {
            "name": self.name,
            "region": self.region,
            "auditor_arns": list(self.auditor_arns),
        }


def make_buckets(folder: Path, buckets: Buckets, *, ask: bool) -> Mapping[str, str]:
    """Make them from a configuration in `folder`, which stays the operator's; the settings below
    `evidence` that name them. A run that broke off goes on where it was.

    Raises Failed: exit code 1 if the answer to the plan was no, 2 for anything else.
    """
    write_configuration(folder, buckets)
    try:
        terraform = Terraform(folder, show=True)
        terraform.init()
        plan = terraform.plan({})
        if plan.changes:
            if ask and not click.confirm("make what the plan shows?"):
                raise Failed("nothing was made", f"the plan's files stay in {folder}", 1)
            terraform.apply(plan)
        return _settings(terraform.outputs())
    except TerraformFailed as error:
        raise Failed(str(error), error.cure) from error


def _settings(outputs: Mapping[str, object]) -> Mapping[str, str]:
    variables = outputs["role_vars"]
    assert isinstance(variables, dict)
    return {name.removeprefix(_ROLE_VARS_PREFIX): str(value) for name, value in variables.items()}


def write_configuration(folder: Path, buckets: Buckets) -> None:
    """A root module in `folder`, which plain `terraform` works on from then on. Raises Failed."""
    source = terraform_folder()
    values = json.dumps(buckets.variables(), indent=2) + "\n"
    written = folder / _VARIABLES
    if written.exists() and written.read_text("utf-8") != values:
        raise Failed(
            f"{written} asks for other buckets",
            f"go on with the same --name and --region, or with terraform in {folder}",
        )
    try:
        shutil.copytree(source / _MODULE, folder / "evidence_bucket", dirs_exist_ok=True)
        for path in sorted((source / _EXAMPLE).glob("*.tf")):
            text = path.read_text("utf-8").replace(f"../../{_MODULE}", "./evidence_bucket")
            (folder / path.name).write_text(text, encoding="utf-8")
        written.write_text(values, encoding="utf-8")
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}", "name another folder: --dir") from error


def terraform_folder() -> Path:
    """Where the Terraform files of this version are: the checkout, or the installation's share."""
    checkout = Path(gateway.__file__).resolve().parents[1] / "terraform"
    installed = Path(sysconfig.get_path("data")) / "share" / "trailgate" / "terraform"
    for folder in (checkout, installed):
        if (folder / _MODULE).is_dir():
            return folder
    raise Failed(f"the Terraform files are not in {installed}", "install trailgate again")
