# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook `rotate` by its name, as operators run it, on a live gateway and a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.collection.conftest import Ansible
from tests.collection.leaks import holds
from tests.live.rotating_world import accounts, asked, rotating, seed, token_of
from tests.live.test_rotation import kept_secrets
from tests.live.test_serve import Served, serving

pytestmark = pytest.mark.live


@pytest.fixture
def rotated(shop: PostgresServer, tmp_path: Path) -> Iterator[Served]:
    made = accounts(shop)
    with serving(tmp_path, rotating(tmp_path, shop, "single")) as served:
        seed(served, made, "single")
        yield served


def run(ansible: Ansible, served: Served, **given: Any) -> subprocess.CompletedProcess[str]:
    """On an inventory with one gateway, whose admin socket lies in a test's folder."""
    inventory = served.folder / "inventory.ini"
    inventory.write_text("[gateways]\ngw1 ansible_connection=local ansible_become=false\n")
    given = {"trailgate_rotate_url": f"unix://{served.data}/admin.sock", **given}
    words = ("-i", str(inventory), "trailgate.gateway.rotate", "-e", json.dumps(given))
    return ansible.run(*words, "-vvv")


def versions(served: Served) -> list[int]:
    found = asked(served.data, "GET", "credentials/app/versions")
    return sorted(one["version"] for one in found)


def test_young_secrets_stay_and_forced_ones_are_rotated(ansible: Ansible, rotated: Served) -> None:
    young = run(ansible, rotated, trailgate_rotate=["app"])
    assert young.returncode == 0, young.stdout + young.stderr
    assert "changed=0" in young.stdout and versions(rotated) == [1]
    forced = run(ansible, rotated, trailgate_rotate=["app"], trailgate_rotate_force=True)
    assert forced.returncode == 0, forced.stdout + forced.stderr
    assert "changed=1" in forced.stdout and max(versions(rotated)) == 2
    with psycopg.connect(rotated.dsn(token_of(rotated, "data"), user="keeper")) as link:
        assert link.execute("select current_user").fetchone() == ("keeper",)
    secrets = [secret.decode() for secret in kept_secrets(rotated.data)]
    assert secrets and not holds((young.stdout + forced.stdout).encode(), secrets)


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ({}, "which credentials? list their names"),
        ({"trailgate_rotate": "app"}, "which credentials? list their names"),
        ({"trailgate_rotate": ["nobody"]}, "no credential has this name"),
        ({"trailgate_rotate": ["app"], "trailgate_rotate_max_age": "soon"}, "write 90s, 15m"),
        (
            {"trailgate_rotate": ["app"], "trailgate_rotate_url": "unix:///nowhere/admin.sock"},
            "no gateway answers at unix:///nowhere/admin.sock",
        ),
    ],
)
def test_what_cannot_be_rotated_is_named_with_its_cure(
    ansible: Ansible, rotated: Served, given: dict[str, Any], cure: str
) -> None:
    done = run(ansible, rotated, **given)
    assert done.returncode != 0 and cure in done.stdout, done.stdout + done.stderr
    assert versions(rotated) == [1]
