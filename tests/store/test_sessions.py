# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has what open: told by each node, shown by all, forgotten with the node that is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.store import sessions as kept
from gateway.store.database import Database, Told, Work
from gateway.store.sessions import StoredSessions
from tests.store.conftest import Place


def document(name: str) -> dict[str, Any]:
    return {"id": name, "grant": "g", "operations": 1}


async def both(place: Place) -> tuple[StoredSessions, StoredSessions]:
    one = StoredSessions(await place.open(), "gw-a")
    return one, StoredSessions(await place.open(), "gw-b")


async def test_each_sees_the_others_and_not_its_own(place: Place) -> None:
    one, two = await both(place)
    await one.keep({"s1": document("s1"), "s2": document("s2")}, ())
    await two.keep({"s3": document("s3")}, ())
    assert [each["id"] for each in await two.elsewhere()] == ["s1", "s2"]
    assert await one.elsewhere() == [document("s3")]
    await one.keep({"s1": {**document("s1"), "operations": 2}}, ["s2"])
    assert await two.elsewhere() == [{**document("s1"), "operations": 2}]
    await one.start()
    assert await two.elsewhere() == []


async def test_an_end_is_asked_of_the_node_that_has_it(place: Place) -> None:
    one, two = await both(place)
    await one.keep({"s1": document("s1")}, ())
    assert not await one.ask_to_end("s1", "mine: ended here, not by asking")
    assert not await two.ask_to_end("s9", "nobody has it")
    assert await two.ask_to_end("s1", "killed by admin")
    assert await one.asked_to_end() == [("s1", "killed by admin")]
    # What is told of it anew takes nothing back.
    await one.keep({"s1": document("s1")}, ())
    assert await one.asked_to_end() == [("s1", "killed by admin")]
    await one.keep({}, ["s1"])
    assert await one.asked_to_end() == []


@dataclass
class Later:
    """A database whose clock is ahead."""

    database: Database
    ahead: float = 0.0

    def now(self) -> float:
        return self.database.now() + self.ahead

    async def read(self, work: Work[Any]) -> Any:
        return await self.database.read(work)

    async def write(self, work: Work[Any]) -> Any:
        return await self.database.write(work)

    async def ping(self) -> None:
        await self.database.ping()

    async def close(self) -> None:
        await self.database.close()

    def when_changed(self, told: Told) -> None:
        self.database.when_changed(told)


async def test_a_node_that_says_nothing_is_gone(place: Place) -> None:
    clock = Later(await place.open())
    one, two = StoredSessions(clock, "gw-a"), StoredSessions(clock, "gw-b")
    await one.keep({"s1": document("s1")}, ())
    clock.ahead = kept.SILENT_SECONDS - 1
    assert await two.elsewhere() == [document("s1")]
    clock.ahead = kept.SILENT_SECONDS + 1
    assert await two.elsewhere() == []
    await one.keep({}, ())
    assert await two.elsewhere() == [document("s1")]
    clock.ahead += kept.FORGET_SECONDS + 1
    await two.keep({}, ())
    await one.keep({}, ())
    assert await two.elsewhere() == []
