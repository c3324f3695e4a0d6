# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared objects on each database: one sequence over the changes of all processes."""

from __future__ import annotations

import asyncio

from gateway.store.objects import Edit, StoredObjects
from tests.store.conftest import Place


def edit(name: str, document: str | None = "{}", kind: str = "target") -> Edit:
    return Edit(kind, name, document, "api")


async def test_what_is_declared_comes_back_in_the_order_of_bytes(place: Place) -> None:
    store = StoredObjects(await place.open())
    names = ["b", "B", "a_1", "a-1", "ä", "Z", "_"]
    written = await store.write([edit(name) for name in names], by="x", at=1.5, revision=0)
    assert written is not None and [one.name for one in written[1]] == names
    revision, found = await store.everything()
    # The same pages on both databases, whatever the server's locale.
    assert [one.name for one in found] == sorted(names)
    assert (revision, found[0].version, found[0].changed_at) == (written[0], 1, 1.5)
    deleted = await store.write([edit("b", None)], by="x", at=2.0, revision=revision)
    assert deleted is not None and deleted[1] == ()
    again = await store.write([edit("b")], by="x", at=3.0, revision=deleted[0])
    assert again is not None and again[1][0].version == 3


async def test_of_two_that_change_the_same_state_one_is_told_to_look_again(place: Place) -> None:
    stores = [StoredObjects(await place.open()) for _ in range(3)]
    won = 0
    while won < 10:
        revision = await stores[0].revision()
        answers = await asyncio.gather(
            *(
                store.write([edit(f"t{won}")], by=f"n{number}", at=1.0, revision=revision)
                for number, store in enumerate(stores)
            )
        )
        assert len([one for one in answers if one is not None]) == 1
        won += 1
    seen = [await store.everything() for store in stores]
    assert seen[0] == seen[1] == seen[2] and len(seen[0][1]) == 10


async def test_thousands_at_once_are_as_each_alone(place: Place) -> None:
    """More than one statement's worth: created, some deleted, some changed, some new."""
    store = StoredObjects(await place.open())
    names = [f"t{number:04}" for number in range(1203)]
    first = await store.write([edit(name) for name in names], by="x", at=1.0, revision=0)
    assert first is not None and first[0] == 1203
    assert [one.name for one in first[1]] == names
    edits = [edit(name, None if name < "t0600" else '{"a": 1}') for name in names]
    edits += [edit(name, kind="credential") for name in names[:7]]
    second = await store.write(edits, by="y", at=2.0, revision=first[0])
    assert second is not None and second[0] == 1203 + 1210
    revision, found = await store.everything()
    assert revision == second[0] and len(found) == 603 + 7
    assert {one.version for one in found if one.kind == "target"} == {2}
    assert {one.version for one in found if one.kind == "credential"} == {1}
    assert {one.document for one in found if one.kind == "target"} == {'{"a": 1}'}
    again = await store.write([edit("t0000")], by="z", at=3.0, revision=revision)
    assert again is not None and again[1][0].version == 3
