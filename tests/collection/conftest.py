# SPDX-License-Identifier: GPL-3.0-or-later
"""The staged collection, a gateway with nothing declared, and Ansible to run plays on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.certificates import self_made
from tests.bench.stage import free_port
from tests.collection.stage import ROOT, stage
from tests.live.conftest import postgresql, shop
from tests.live.gateway_process import command
from tests.live.test_serve import Served, serving

__all__ = ["postgresql", "shop"]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


@dataclass(frozen=True)
class Ansible:
    """Runs plays on this machine, with nothing of the user's own settings."""

    folder: Path
    collections: Path

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`ansible-playbook`, with the machine itself as its only host."""
        env = {
            "PATH": os.pathsep.join((str(PLAYBOOK.parent), os.environ["PATH"])),
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_PIPELINING": "true",
            "LC_ALL": "C.UTF-8",
            **environment,
        }
        words = (str(PLAYBOOK), "-i", "localhost,", "-c", "local", *words)
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=110)

    def play(
        self, tasks: list[dict[str, Any]], *words: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """These tasks, with `--diff`."""
        play = [{"hosts": "localhost", "gather_facts": False, "diff": True, "tasks": tasks}]
        path = self.folder / "play.yml"
        path.write_text(yaml.safe_dump(play, sort_keys=False))
        return self.run(str(path), *words, **environment)

    def tried(
        self, tasks: list[dict[str, Any]], *words: str, **environment: str
    ) -> tuple[list[Any], str]:
        """What each task returned, failed or not, and all that was printed. In one play, since
        each start of Ansible takes longer than the tasks."""
        out = self.folder / "results.json"
        out.unlink(missing_ok=True)
        named = [{**task, "register": f"r{index}"} for index, task in enumerate(tasks)]
        named = [{"ignore_errors": True, **task} for task in named]
        listed = ", ".join(f"r{index}" for index in range(len(tasks)))
        copy = {"content": "{{ [" + listed + "] | to_json }}", "dest": str(out), "mode": "0600"}
        written = {"ansible.builtin.copy": copy, "diff": False, "check_mode": False, "no_log": True}
        done = self.play([*named, written], *words, **environment)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        found: list[Any] = json.loads(out.read_text())
        return found, said

    def results(self, tasks: list[dict[str, Any]], *words: str, **environment: str) -> list[Any]:
        """What each task returned. Fails with Ansible's own words if one of them failed."""
        strict = [{**task, "ignore_errors": False} for task in tasks]
        return self.tried(strict, *words, **environment)[0]


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collections")
    stage(folder)
    return folder


@pytest.fixture(scope="session")
def ansible(collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    if not PLAYBOOK.exists():
        pytest.skip("ansible-core is not installed")
    return Ansible(tmp_path_factory.mktemp("controller"), collections)


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway whose objects all come through its API."""
    folder = tmp_path_factory.mktemp("bare")
    data, port, api = folder / "data", free_port(), free_port()
    done = command("init", "--dir", str(folder), "--data", str(data))
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "policies")
    (folder / "trailgate.yaml").write_text(
        f"data: {data}\nnode: gw-collection\nobjects: [objects.yaml]\n"
        f"master_key: {{key: 'file:{folder}/master.key'}}\n"
        f"listeners: {{postgresql: 127.0.0.1:{port}, https: 127.0.0.1:{api}}}\n"
    )
    with serving(folder, (port, api), data) as running:
        yield running


@pytest.fixture(scope="session")
def places(bare: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What stands in the modules' examples, and what is put in its place."""
    folder = tmp_path_factory.mktemp("places")
    made = self_made(folder, ["db1.internal"])
    secret = folder / "reporting"
    secret.write_text("from a file")
    secret.chmod(0o600)
    recipient = command("keys", "make", "--dir", str(folder / "auditor"))
    assert recipient.returncode == 0, recipient.stderr
    return {
        "unix:///var/lib/trailgate/admin.sock": f"unix://{bare.data}/admin.sock",
        "/etc/trailgate/db-ca.pem": str(made.ca_path),
        "/run/secrets/reporting": str(secret),
        "/etc/trailgate/idp.pem": str(made.cert_path),
        "deployer/agent.pub": str(_agent_key(folder)),
        "auditor/recipient.pub": str(folder / "auditor" / "recipient.pub"),
        "https://gateway.example.com:8443": f"https://127.0.0.1:{bare.api}",
        "/etc/trailgate/ca.pem": bare.ca,
    }


def _agent_key(folder: Path) -> Path:
    private = ec.generate_private_key(ec.SECP256R1())
    path = folder / "agent.pub"
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, public))
    return path
