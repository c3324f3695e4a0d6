# SPDX-License-Identifier: GPL-3.0-or-later
"""A login that its provider does not confirm: what the record of its grant says of it."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.admin.login_world import Cli, World, logged_in, world_at
from tests.admin.test_login import Clock
from tests.record.place import Place
from tests.record.test_grants import frames_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_at(tmp_path, Clock()) as found:
        yield found


@pytest.fixture
async def browser(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.browser() as client:
        yield client


async def test_a_suspension_and_its_end_stand_in_the_record_of_the_grant(
    world: World, browser: httpx.AsyncClient, tmp_path: Path
) -> None:
    place = Place(tmp_path / "record")
    recorder = await place.start()
    world.grants.ledger = recorder.grants
    world.provider.refreshes = True
    given = await logged_in(world, browser, Cli(world))
    look = world.logins.refresher.look

    async def later(seconds: float) -> None:
        world.clock.ahead += seconds
        await look()

    world.provider.failing = (503, {})
    await later(310)
    for _ in range(4):
        await later(20)
    recorder.grants.close_all()  # as after a restart: it has no open record, and gets one
    world.provider.failing = None
    await later(20)
    grant = await world.grants.by_handle(given["access_token"])
    await recorder.stop()
    place.assert_complete()
    events = [one for one in frames_of(place, grant.id) if "event" in one]
    assert [one["event"] for one in events] == ["mint", "suspend", "resume", "restore"]
    assert events[-1]["by"] == "corp"


async def test_a_login_stays_suspended_while_its_return_cannot_be_recorded(
    world: World, browser: httpx.AsyncClient, tmp_path: Path
) -> None:
    broken = False

    def sync(descriptor: int) -> None:
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)

    recorder = await Place(tmp_path / "record").start(sync)
    world.grants.ledger = recorder.grants
    world.provider.refreshes = True
    given = await logged_in(world, browser, Cli(world))
    world.provider.failing = (503, {})
    world.clock.ahead += 361
    await world.logins.refresher.look()
    world.provider.failing, broken = None, True
    world.clock.ahead += 16
    await world.logins.refresher.look()
    with pytest.raises(Exception, match="suspended"):
        await world.grants.by_handle(given["access_token"])
    await recorder.stop()
