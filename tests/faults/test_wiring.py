# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness by the gateway's settings: to the last checkpoint, and in the mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load_settings
from gateway.ship.mirror import LogMirror
from gateway.wiring.evidence import witnessed
from tests.faults.auditor import Auditor, day, until
from tests.record.place import Place

pytestmark = pytest.mark.fault


class Bucket:
    """A store in memory that never forgets and refuses to change what it has."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.order: list[str] = []

    async def publish_bytes(self, object_name: str, body: bytes) -> None:
        assert self.objects.setdefault(object_name, body) == body
        self.order.append(object_name)

    async def overwrite(self, object_name: str, body: bytes) -> None:
        self.objects[object_name] = body
        self.order.append(object_name)

    async def find(self, object_name: str) -> bytes | None:
        return self.objects.get(object_name)

    async def names(self, below: str) -> set[str]:
        return {name for name in self.objects if name.startswith(below)}


def settings_text(place: Place, auditor: Auditor) -> str:
    witness = f"{{url: '{auditor.url}', vkey: '{auditor.key_text}', required: true}}"
    return f"data: {place.data}\nnode: gw1\nevidence:\n  witness: {witness}\n"


async def test_the_end_of_the_log_is_cosigned_and_mirrored(tmp_path: Path) -> None:
    place, bucket = Place(tmp_path), Bucket()
    await day(place)
    auditor = Auditor(tmp_path, place)
    auditor.serve()
    settings, _ = load_settings(tmp_path / "trailgate.yaml", settings_text(place, auditor))
    mirror = LogMirror(place.evidence, bucket)
    async with witnessed(settings, place.evidence) as witness:
        assert witness.refuse() == ""
        await until(lambda: witness.figures()["witness_size"] > 0)
        await mirror.mirror()
        await day(place)
    await mirror.mirror()
    log = place.evidence / "log" / "gw1" / "0"
    size = int((log / "checkpoint").read_text().split("\n")[1])
    assert witness.figures()["witness_size"] == size
    assert auditor.verify(place).exit_code == 0
    cosigned = {f"log/gw1/0/cosigned/{path.name}" for path in (log / "cosigned").iterdir()}
    assert cosigned <= bucket.objects.keys() and len(cosigned) >= 2
    newest = bucket.order.index(f"log/gw1/0/cosigned/{size}")
    assert newest > len(bucket.order) - 1 - bucket.order[::-1].index("log/gw1/0/checkpoint")
    auditor.end()
