# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as `ansible-galaxy` builds it from a checkout, and as others install it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from tests.collection.conftest import PLAYBOOK, Ansible
from tests.collection.stage import PARTS, ROOT, stage
from tests.live.test_serve import Served

GALAXY = PLAYBOOK.with_name("ansible-galaxy")


def galaxy(home: Path, *words: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"}
    environment["ANSIBLE_HOME"] = str(home / "ansible")
    command = [str(GALAXY), "collection", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From the checkout itself, as `ansible-galaxy collection install git+...` does."""
    if not GALAXY.exists():
        pytest.skip("ansible-core is not installed")
    folder = tmp_path_factory.mktemp("built")
    galaxy(folder, "build", "--output-path", str(folder), str(ROOT))
    (made,) = folder.glob("trailgate-gateway-*.tar.gz")
    return made


def test_it_holds_what_belongs_to_it_and_nothing_else(built: Path, tmp_path: Path) -> None:
    staged = stage(tmp_path)
    wanted = {str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()}
    with tarfile.open(built) as archive:
        members = archive.getmembers()
        files = {one.name for one in members if one.isfile()}
        texts = {name: archive.extractfile(name).read() for name in files}  # type: ignore[union-attr]
    assert files - {"MANIFEST.json", "FILES.json"} == wanted - {"galaxy.yml"}
    assert {one.name.partition("/")[0] for one in members} <= {
        *PARTS,
        "MANIFEST.json",
        "FILES.json",
    }
    assert not [one.name for one in members if one.issym() or "__pycache__" in one.name]
    machine = re.compile(rb"/root/|/home/(?!auditor/)|/tmp/|" + re.escape(str(ROOT).encode()))
    assert not [name for name, text in texts.items() if machine.search(text)]
    manifest = json.loads(texts["MANIFEST.json"])["collection_info"]
    assert (manifest["namespace"], manifest["name"]) == ("trailgate", "gateway")
    assert manifest["dependencies"] == {} and manifest["license"] == ["GPL-3.0-or-later"]


def test_plugins_need_ansible_and_the_standard_library_alone() -> None:
    allowed = {*sys.stdlib_module_names, "ansible", "ansible_collections"}
    paths = list((ROOT / "plugins").rglob("*.py"))
    assert len(paths) > 15
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, path


@pytest.mark.live
def test_it_works_from_a_private_path_on_a_python_without_packages(
    built: Path, ansible: Ansible, bare: Served, tmp_path: Path
) -> None:
    galaxy(tmp_path, "install", "--offline", "-p", str(tmp_path / "private"), str(built))
    venv.create(tmp_path / "bare", with_pip=False)
    installed = replace(ansible, folder=tmp_path, collections=tmp_path / "private")
    url = {"url": f"unix://{bare.data}/admin.sock"}
    access = {**url, "name": "installed", "groups": ["x"], "may": ["audit"]}
    tasks = [
        {"trailgate.gateway.gateway_info": url},
        {"trailgate.gateway.access": access},
        {"trailgate.gateway.access": {**url, "name": "installed", "state": "absent"}},
    ]
    python = {"ANSIBLE_PYTHON_INTERPRETER": str(tmp_path / "bare" / "bin" / "python")}
    ready, made, gone = installed.results(tasks, **python, PYTHONPATH="")
    assert ready["ready"] and made["changed"] and gone["changed"]
