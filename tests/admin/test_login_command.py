# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate login` and `logout` as processes, and a browser that fills the gateway's pages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.admin.conftest import BARE, command
from tests.admin.login_world import World, world_at
from tests.admin.test_login import Clock
from tests.scripted_browser import Browser

YES = {"answer": "yes"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_at(tmp_path, Clock()) as found:
        yield found


def environment(world: World, fields: dict[str, str], **more: str) -> dict[str, str]:
    """A bare one, with a browser that answers so."""
    kept = {name: os.environ[name] for name in BARE if name in os.environ}
    return {
        **kept,
        "TRAILGATE_URL": world.url,
        "XDG_STATE_HOME": str(world.folder / "state"),
        "BROWSER": f"{sys.executable} -m tests.scripted_browser %s &",
        "SCRIPTED_BROWSER": json.dumps(fields),
        **more,
    }


async def run(*words: str, env: dict[str, str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command(*words), env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def kept(file: Path) -> str:
    """The token in a file, and a folder, that nobody else may read."""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    token = file.read_text().strip()
    assert token.startswith("tg_")
    return token


async def test_a_person_logs_in_is_known_to_other_commands_and_logs_out(world: World) -> None:
    env = environment(world, YES)
    code, out, err = await run("login", "--issuer", "corp", "-o", "json", env=env)
    assert code == 0, err
    told = json.loads(out)
    assert told["origin"]["name"] == "alice"
    file = Path(told["file"])
    token = kept(file)
    assert token not in out + err
    code, out, _ = await run("grants", "list", "-o", "json", env=env)
    assert code == 0 and [one["grant"] for one in json.loads(out)] == [told["grant"]]
    code, out, _ = await run("token", "--as", "reader", "-o", "json", env=env)
    assert json.loads(out)["chain"] == ["alice", "reader"]
    child = json.loads(out)["token"]
    code, out, _ = await run("login", "--status", env=env)
    assert code == 0 and "alice" in out and str(file) in out
    code, out, _ = await run("logout", env=env)
    assert code == 0 and list(world.folder.rglob("logins/*")) == []
    for gone in (token, child):
        assert (await world.get("/api/v1/self", gone)).status_code == 401
    for words in (("login", "--status"), ("logout",)):
        code, _, err = await run(*words, env=env)
        assert code == 1 and "nobody is logged in" in err


async def test_no_leaves_nothing_behind(world: World) -> None:
    env = environment(world, {"answer": "no"})
    code, _, err = await run("login", "--issuer", "corp", env=env)
    assert code == 1 and "access_denied" in err
    assert not (world.folder / "state").exists()


async def test_the_address_is_printed_where_no_browser_opens(world: World) -> None:
    env = environment(world, YES)
    process = await asyncio.create_subprocess_exec(
        *command("login", "--no-browser"),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = b""
    while not (found := re.search(rb"  (http://\S+)\n", said)):
        said += await asyncio.wait_for(process.stderr.readline(), 30)
    url = found[1].decode()
    port = re.search(r"127\.0\.0\.1%3A(\d+)%2Fcallback", url)
    assert port is not None
    here = f"http://127.0.0.1:{port[1]}"
    async with httpx.AsyncClient(trust_env=False) as stranger:
        for path in ("/", "/callback?code=x&state=y", "/callback?code=x", "/callback"):
            assert (await stranger.get(here + path)).status_code == 404
    person = Browser({**YES, "issuer": "corp"})
    page = await asyncio.to_thread(person.go, url)
    assert page.status_code == 200 and "You can close this page" in page.text
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_terminal_without_a_browser_logs_in_by_a_code(world: World) -> None:
    process = await asyncio.create_subprocess_exec(
        *command("login", "--device", "-o", "json"),
        env=environment(world, {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None and process.stdout is not None
    said = b""
    while not (found := re.search(rb"  ([A-Z]{4}-[A-Z]{4})\n", said)):
        said += await asyncio.wait_for(process.stderr.readline(), 30)
    assert f"Open {world.url}/login/device in a browser".encode() in said
    person = Browser({**YES, "user_code": found[1].decode(), "issuer": "corp"})
    page = await asyncio.to_thread(person.go, f"{world.url}/login/device")
    assert "The terminal goes on" in page.text
    told = json.loads(await asyncio.wait_for(process.stdout.read(), 60))
    assert told["origin"]["subject"] == "00u1" and await process.wait() == 0


async def test_what_cannot_be_done_is_said(world: World) -> None:
    env = environment(world, YES)
    code, _, err = await run("login", env={**env, "TRAILGATE_URL": "http://127.0.0.1:1"})
    assert code == 2 and "no gateway answers" in err
    code, _, err = await run("login", env={**env, "TRAILGATE_URL": "http://gateway.example"})
    assert code == 2 and "not a place where a token is safe" in err
    world.logins.replace([], [])
    code, _, err = await run("login", "--device", env=env)
    assert code == 1 and "nobody logs in here" in err
