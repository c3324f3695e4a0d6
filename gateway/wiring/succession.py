# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a node opens a new log: which of its logs others already hold, and how far it had come.

A node whose disk is gone must not write a log again that lies in the store: two histories of one
name would be a fork. The witness tells the latest checkpoint it cosigned; else the store does.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Protocol as Interface

from gateway.model import RecordFailed
from gateway.record.choosing import Predecessor, origin_of, own_log
from gateway.ship import ShipFailed

log = logging.getLogger("trailgate")

_ASK_SECONDS = 20.0


class Store(Interface):
    """What is needed of S3Publisher."""

    async def names(self, below: str) -> set[str]: ...
    async def read(self, object_name: str) -> bytes: ...


class Witness(Interface):
    """What is needed of WitnessClient."""

    async def latest(self, origin: str) -> bytes | None: ...


async def predecessor(
    data: Path, evidence: Path, node: str, store: Store | None, witness: Witness | None
) -> Predecessor | None:
    """The node's newest log elsewhere; None where it has one here, or none at all.

    Raises RecordFailed when the store cannot be asked: then no number is safe to open.
    """
    if await asyncio.to_thread(own_log, data / "node", evidence, node) is not None:
        return None
    found = await asyncio.to_thread(_here, evidence, node)
    if store is not None:
        try:
            found = max(found, await _in_store(store, node), key=lambda one: one.number)
        except ShipFailed as error:
            raise RecordFailed(
                f"this node has no log here, and the store cannot tell of its earlier ones: {error}"
            ) from error
    if found.number < 0:
        return None
    told = await _witnessed(witness, origin_of(node, found.number)) if witness else None
    # What the witness cosigned may be ahead of what was shipped, and never behind by its fault.
    if told is not None and _size(told) >= _size(found.note):
        found = Predecessor(found.number, told, "witness")
    log.warning(
        "this node goes on for a log that it lost",
        extra={"log": origin_of(node, found.number), "leaves": _size(found.note)},
    )
    return found


def _here(evidence: Path, node: str) -> Predecessor:
    logs = [path for path in (evidence / "log" / node).glob("*") if path.name.isdigit()]
    newest = max(logs, key=lambda path: int(path.name), default=None)
    if newest is None:
        return Predecessor(-1)
    try:
        note = (newest / "checkpoint").read_bytes()
    except FileNotFoundError:
        note = b""
    return Predecessor(int(newest.name), note, "evidence")


async def _in_store(store: Store, node: str) -> Predecessor:
    names = await store.names(f"log/{node}/")
    numbers = [int(name.split("/")[2]) for name in names if re.fullmatch(r"log/[^/]+/\d+/.+", name)]
    if not numbers:
        return Predecessor(-1)
    head = f"log/{node}/{max(numbers)}/checkpoint"
    note = await store.read(head) if head in names else b""
    return Predecessor(max(numbers), note, "evidence")


async def _witnessed(witness: Witness, origin: str) -> bytes | None:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            return await witness.latest(origin)
    except (ShipFailed, TimeoutError) as error:
        log.error("the witness was not asked", extra={"cause": f"{error or 'no answer in time'}"})
        return None


def _size(note: bytes) -> int:
    lines = note.split(b"\n")
    return int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 0
