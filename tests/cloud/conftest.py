# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud on loopback, and buckets that `trailgate init --aws` made there for one gateway."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from gateway.certificates import self_made
from tests.bench.stage import free_port
from tests.collection.conftest import ansible, collections
from tests.pages import CLOUD, blocks, commands
from tests.terraform import providers

__all__ = ["ansible", "collections"]
AWS_SECRET = "s3eded-aws-secret-access-key"
NAME = "acme-trailgate"
REGION = "eu-central-1"
AUDITOR = "arn:aws:iam::210987654321:root"
LOCK = '{ mode = "GOVERNANCE", days = 1 }'


@dataclass(frozen=True)
class Cloud:
    """Where it answers, and the environment in which tools find it."""

    url: str
    environment: dict[str, str]

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Fails, and says what is missing, on a machine without Terraform or the provider."""
    if missing := providers.why_not():
        pytest.fail(missing, pytrace=False)
    folder = tmp_path_factory.mktemp("cloud")
    certificate, port = self_made(folder, ["127.0.0.1"]), free_port()
    files = [str(certificate.cert_path), str(certificate.key_path)]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.cloud.cloud", str(port), *files], stdout=log, stderr=log
        )
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
        "AWS_CA_BUNDLE": str(certificate.ca_path),
        "AWS_EC2_METADATA_DISABLED": "true",
        **providers.environment(folder),
    }
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        _wait(f"https://127.0.0.1:{port}/moto-api/data.json", child)
        yield Cloud(f"https://127.0.0.1:{port}", environment)
    finally:
        os.environ.clear()
        os.environ.update(before)
        child.terminate()
        child.wait(20)


def _wait(url: str, child: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert child.poll() is None, "the cloud did not start"
        try:
            if httpx.get(url, verify=False, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError("the cloud does not answer")


@dataclass(frozen=True)
class Made:
    """What `init --aws` left: settings in `etc`, Terraform's configuration in `etc/terraform`."""

    etc: Path
    data: Path
    said: str


@pytest.fixture(scope="session")
def made(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("operator")
    os.environ["TF_VAR_evidence_lock"] = LOCK
    os.environ["TF_VAR_keys_lock_days"] = "1"
    os.environ["TF_VAR_force_destroy"] = "true"
    etc, data = folder / "etc", folder / "data"
    places = {"/etc/trailgate": str(etc), "/var/lib/trailgate": str(data)}
    (line,) = [text for text in documented(places) if text.startswith("trailgate init ")]
    assert NAME in line and REGION in line and AUDITOR in line
    done = trailgate(f"{line} --yes")
    assert done.returncode == 0, done.stdout + done.stderr
    return Made(etc, data, done.stdout)


def documented(places: Mapping[str, str]) -> list[str]:
    """The commands of the page on the cloud, with these places for those that stand there."""
    found = [text for block in blocks(CLOUD, "sh") for _, text in commands(block)]
    for name, place in places.items():
        found = [text.replace(name, place) for text in found]
    return [text.replace("\\\n", " ") for text in found]


def trailgate(line: str) -> subprocess.CompletedProcess[str]:
    """A command line; the provider waits a minute for a bucket's lifecycle to settle."""
    words = [sys.executable, "-m", "gateway", *shlex.split(line)[1:]]
    return subprocess.run(words, capture_output=True, text=True, timeout=400)
