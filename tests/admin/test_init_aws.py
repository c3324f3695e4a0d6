# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate init --aws` where it cannot go on: each failure says what to do, nothing half done."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.admin.cli._aws import Buckets, write_configuration
from gateway.admin.cli._terraform import Terraform, TerraformFailed


def init(folder: Path, *options: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    """As a process of its own: Terraform writes to the real standard output."""
    words = [sys.executable, "-m", "gateway", "init", "--dir", str(folder)]
    return subprocess.run(
        [*words, "--data", str(folder / "data"), *options],
        input=answer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


AWS = ("--aws", "--name", "acme-trailgate", "--region", "eu-central-1")


@pytest.fixture
def fake_terraform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `terraform` on PATH that plans changes, and fails at the step named in the file `fails`."""
    binary = tmp_path / "bin" / "terraform"
    binary.parent.mkdir()
    binary.write_text(
        "#!/bin/sh\n"
        f"step=$(cat {tmp_path}/fails 2>/dev/null)\n"
        'if [ "$1" = "$step" ]; then echo "no $1 today" >&2; exit 1; fi\n'
        f'echo "$@" >> {tmp_path}/calls\n'
        '[ "$1" = plan ] && { echo "Plan: 33 to add"; exit 2; }\n'
        "exit 0\n"
    )
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    return tmp_path


def test_without_terraform_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = init(tmp_path / "etc", *AWS)
    assert done.returncode == 2
    assert "terraform is not on PATH" in done.stdout and "install Terraform" in done.stdout
    assert not (tmp_path / "etc" / "trailgate.yaml").exists()


@pytest.mark.parametrize("options", [("--aws",), ("--aws", "--name", "x"), ("--region", "y")])
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = init(tmp_path / "etc", *options)
    assert done.returncode == 2 and "--aws" in done.stdout
    assert not (tmp_path / "etc").exists()


def test_a_plan_that_is_turned_down_makes_nothing(fake_terraform: Path) -> None:
    done = init(fake_terraform / "etc", *AWS, answer="n\n")
    assert done.returncode == 1 and "nothing was made" in done.stdout
    calls = (fake_terraform / "calls").read_text()
    assert "plan" in calls and "apply" not in calls
    assert not (fake_terraform / "etc" / "trailgate.yaml").exists()


@pytest.mark.parametrize("step", ["init", "plan", "apply"])
def test_a_step_that_fails_is_named_and_no_settings_are_written(
    fake_terraform: Path, step: str
) -> None:
    (fake_terraform / "fails").write_text(step)
    done = init(fake_terraform / "etc", *AWS, "--yes")
    assert done.returncode == 2 and f"terraform {step} failed" in done.stdout
    assert "next: " in done.stdout
    assert not (fake_terraform / "etc" / "trailgate.yaml").exists()


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not on PATH")
def test_without_the_provider_it_says_how_terraform_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    config = tmp_path / "terraform.rc"
    mirror = f'filesystem_mirror {{\n    path = "{tmp_path}/mirror"\n  }}'
    config.write_text(f"provider_installation {{\n  {mirror}\n}}\n")
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3eded-aws-secret")
    done = init(tmp_path / "etc", *AWS, "--yes")
    assert done.returncode == 2 and "hashicorp/aws" in done.stdout
    assert "next: give Terraform a way to the hashicorp/aws provider" in done.stdout
    assert done.stdout.count("Failed to query available provider packages") == 1
    assert not (tmp_path / "etc" / "trailgate.yaml").exists()
    assert "s3eded" not in done.stdout


def test_the_words_of_a_failure_are_in_the_exception(fake_terraform: Path) -> None:
    (fake_terraform / "fails").write_text("init")
    with pytest.raises(TerraformFailed, match="no init today") as failure:
        Terraform(fake_terraform).init()
    assert failure.value.step == "init"


def test_a_state_that_is_no_json_is_named(fake_terraform: Path) -> None:
    (fake_terraform / "terraform.tfstate").write_text("{")
    with pytest.raises(TerraformFailed, match="no JSON"):
        Terraform(fake_terraform)


def test_the_configuration_is_whole_and_the_operators_own(tmp_path: Path) -> None:
    folder = tmp_path / "terraform"
    buckets = Buckets("acme-trailgate", "eu-central-1", ("arn:aws:iam::210987654321:root",))
    write_configuration(folder, buckets)
    assert 'source = "./evidence_bucket"' in (folder / "main.tf").read_text()
    assert (folder / "evidence_bucket" / "main.tf").is_file()
    assert json.loads((folder / "terraform.tfvars.json").read_text()) == buckets.variables()
    assert stat.S_ISDIR(folder.stat().st_mode)
    write_configuration(folder, buckets)


def test_a_folder_that_asks_for_other_buckets_is_left_alone(fake_terraform: Path) -> None:
    write_configuration(fake_terraform / "etc" / "terraform", Buckets("first", "eu-central-1"))
    done = init(fake_terraform / "etc", *AWS, "--yes")
    assert done.returncode == 2 and "asks for other buckets" in done.stdout
