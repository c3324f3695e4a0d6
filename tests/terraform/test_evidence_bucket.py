# SPDX-License-Identifier: GPL-3.0-or-later
"""The Terraform files: formatted, documented, and planning what they promise (a mocked cloud)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.terraform import providers

ROOT = Path(__file__).parents[2] / "terraform"
MODULE = ROOT / "modules" / "evidence_bucket"
EXAMPLE = ROOT / "examples" / "single_node"

needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not on PATH"
)


def terraform(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["terraform", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
    )


def declared(path: Path, kind: str) -> set[str]:
    return set(re.findall(rf'^{kind} "([a-z_]+)"', path.read_text(), re.M))


@needs_terraform
def test_the_files_are_formatted() -> None:
    done = terraform(ROOT, "fmt", "-check", "-recursive", "-list=true")
    assert (done.returncode, done.stdout) == (0, "")


def test_every_variable_and_output_is_in_the_readme() -> None:
    readme = (MODULE / "README.md").read_text()
    names = declared(MODULE / "variables.tf", "variable") | declared(
        MODULE / "outputs.tf", "output"
    )
    rows = set(re.findall(r"^\| `([a-z_]+)`", readme, re.M))
    assert rows == names


@pytest.mark.parametrize("folder", [MODULE, EXAMPLE])
def test_every_variable_has_a_type_and_a_meaning(folder: Path) -> None:
    blocks = re.split(r"^(?=variable )", (folder / "variables.tf").read_text(), flags=re.M)[1:]
    for block in blocks:
        assert re.search(r"^  type +=", block, re.M) and "\n  description = " in block, block


def test_the_example_passes_on_only_what_the_module_knows() -> None:
    known = declared(MODULE / "variables.tf", "variable")
    passed = set(re.findall(r"^  ([a-z_]+) += var\.", (EXAMPLE / "main.tf").read_text(), re.M))
    assert passed - {"region"} <= known
    assert declared(EXAMPLE / "variables.tf", "variable") == passed


def test_the_outputs_for_the_role_are_variables_of_the_role() -> None:
    block = (MODULE / "outputs.tf").read_text().partition('output "role_vars"')[2]
    given = set(re.findall(r"^    ([a-z_]+) += ", block.partition("\n  }\n")[0], re.M))
    specs = ROOT.parent / "roles" / "trailgate" / "meta" / "argument_specs.yml"
    known = yaml.safe_load(specs.read_text())["argument_specs"]["main"]["options"]
    assert len(given) == 3 and given <= set(known)
    assert all(known[name]["type"] == "str" for name in given)


@pytest.mark.slow
def test_it_plans_what_it_promises_and_refuses_what_it_must(tmp_path: Path) -> None:
    if missing := providers.why_not():
        pytest.skip(missing)
    folder = tmp_path / "module"
    shutil.copytree(MODULE, folder)
    environment = providers.environment(tmp_path)
    done = terraform(folder, "init", "-input=false", "-no-color", **environment)
    assert done.returncode == 0, done.stderr
    done = terraform(folder, "test", "-no-color", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! \d+ passed, 0 failed", done.stdout)
