# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 after each step of a rotation, and after each effect that is not journalled yet: the next
start takes it up, and at every moment sessions get in."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.rotating_world import accounts, asked, rotating, seed, token_of
from tests.live.test_rotation import ended, lets_in, served_rotations, who
from tests.live.test_serve import Served, serving

pytestmark = [pytest.mark.live, pytest.mark.fault]

MOMENTS = {
    "single": ["made", "changing", "altered", "changed", "let in", "proved", "switched", "done"],
    "two-admin": ["changing", "altered", "proved", "switched", "retiring", "withdrawn", "done"],
}
CASES = [(plan, moment) for plan, moments in MOMENTS.items() for moment in moments]


@contextmanager
def mortal(folder: Path, ports: tuple[int, int], moment: str) -> Iterator[Served]:
    """A gateway that kills itself at that moment."""
    program = [sys.executable, str(Path(__file__).with_name("killed_gateway.py"))]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen([*program, str(folder / "trailgate.yaml"), moment], stderr=log)
    served = Served(folder, *ports, child, {})
    try:
        served.ready()
        yield served
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def rotate(served: Served) -> None:
    """It dies meanwhile, and so without an answer."""
    with suppress(httpx.HTTPError):
        asked(served.data, "POST", "credentials/app/rotate", {})


@pytest.mark.parametrize(("plan", "moment"), CASES)
def test_a_killed_gateway_takes_its_rotation_up(
    plan: str, moment: str, shop: PostgresServer, tmp_path: Path
) -> None:
    made = accounts(shop)
    ports = rotating(tmp_path, shop, plan)
    with mortal(tmp_path, ports, moment) as served:
        seed(served, made, plan)
        token = token_of(served, "data")
        assert who(served, token)
        rotate(served)
        assert served.child.wait(60) == -signal.SIGKILL
    with serving(tmp_path, ports) as served:
        before = who(served, token)  # at once, whatever the rotation has come to
        (rotation,) = served_rotations(served)
        if moment == "done":
            assert rotation["outcome"] == "done"
        found = ended(served)
        assert (found["id"], found["outcome"]) == (rotation["id"], "done")
        assert who(served, token) in (before, found["account"] or "keeper")
        states = [one["state"] for one in asked(served.data, "GET", "credentials/app/versions")]
        assert states == ["revoked", "current"]
        first = "app_a" if plan.startswith("two") else "keeper"
        assert not lets_in(shop, first, made[first])


def test_while_it_is_dead_one_secret_of_the_vault_lets_in(
    shop: PostgresServer, tmp_path: Path
) -> None:
    """Killed between ALTER ROLE and the note of it, again and again."""
    made = accounts(shop)
    ports = rotating(tmp_path, shop, "single")
    with mortal(tmp_path, ports, "altered") as served:
        seed(served, made, "single")
        token = token_of(served, "data")
        rotate(served)
        assert served.child.wait(60) == -signal.SIGKILL
    for _ in range(2):
        # It resumes at its start, and dies at the same place before it could be used.
        program = [sys.executable, str(Path(__file__).with_name("killed_gateway.py"))]
        config = str(tmp_path / "trailgate.yaml")
        with (tmp_path / "log").open("ab") as log:
            child = subprocess.Popen([*program, config, "altered"], stderr=log)
        assert child.wait(60) == -signal.SIGKILL
    with serving(tmp_path, ports) as served:
        with psycopg.connect(served.dsn(token, user="keeper")) as link:
            assert link.execute("select 1").fetchone() == (1,)
        end = time.monotonic() + 30
        while not ended(served):
            assert time.monotonic() < end
