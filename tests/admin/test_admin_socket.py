# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin socket: nobody but root and the gateway's own user can open it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.api.serving import ServeFailed, serve_api
from gateway.identity.embedded_issuer import EmbeddedIssuer

KNOCK = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")


def knock(path: Path) -> subprocess.CompletedProcess[str]:
    """Connect as nobody."""
    return subprocess.run(
        [sys.executable, "-I", "-c", KNOCK, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_its_mode_is_the_owners_alone(api: Any) -> None:
    found = (api.data / "admin.sock").stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()
    assert list(api.data.glob("*.new")) == []


@as_root
async def test_another_user_cannot_open_it_even_where_he_can_see_it(tmp_path: Path) -> None:
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)
    path = tmp_path / "admin.sock"
    serving = await serve_api(EmbeddedIssuer().app, uds=path)
    try:
        assert "PermissionError" in knock(path).stderr
        path.chmod(0o666)  # so that it was the socket's mode which kept him out
        assert knock(path).returncode == 0
    finally:
        await serving.close()
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ServeFailed, match="writable by nobody else"):
        asyncio.run(serve_api(EmbeddedIssuer().app, uds=tmp_path / "admin.sock"))
    assert list(tmp_path.iterdir()) == []


@as_root
async def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(ServeFailed, match="belong to this user"):
        await serve_api(EmbeddedIssuer().app, uds=tmp_path / "admin.sock")


async def test_a_running_gateways_socket_is_left_and_a_dead_ones_is_replaced(
    tmp_path: Path,
) -> None:
    path = tmp_path / "admin.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    serving = await serve_api(EmbeddedIssuer().app, uds=path)
    try:
        with pytest.raises(ServeFailed, match="is running there already"):
            await serve_api(EmbeddedIssuer().app, uds=path)
        assert path.is_socket()
    finally:
        await serving.close()


async def test_a_name_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServeFailed, match="use a shorter data folder"):
        await serve_api(EmbeddedIssuer().app, uds=tmp_path / ("x" * 110))


def test_a_command_that_finds_no_gateway_says_where_it_looked(tmp_path: Path, api: Any) -> None:
    (tmp_path / "admin.sock").touch()
    for data in (tmp_path, tmp_path / "none"):
        answer = api.run("grants", "list", "--data", str(data))
        assert answer.returncode == 2
        assert f"no gateway listens at {data}/admin.sock" in answer.stderr
        assert "next: start one" in answer.stderr
