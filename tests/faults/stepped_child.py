# SPDX-License-Identifier: GPL-3.0-or-later
"""Records while its clock is stepped (libfaketime): ROOT, and the file that the clock obeys."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.record.recorder import NodeRecorder
from tests.record.place import Place

STEPS = ("+0", "+3600", "+0", "-3600", "+0")


async def main(root: Path, clock: Path) -> None:
    place = Place(root)
    recorder = await place.start(heartbeat_seconds=0.05, rotate_seconds=0.2)
    through = await recorder.open({"target": "through"})
    for step in STEPS:
        step_to(clock, step)
        await one_step(recorder, step)
        through.append("request", "client", step.encode(), b'{"at":0,"events":[]}')
        await asyncio.sleep(0.4)
        await recorder._log.sign()
    await through.close("client", {})
    step_to(clock, "-7200")
    await recorder.stop()
    # The next start is an hour before all that was recorded.
    again = await place.start()
    await one_step(again, "again")
    await again.stop()


def step_to(clock: Path, offset: str) -> None:
    clock.write_text(offset)


async def one_step(recorder: NodeRecorder, step: str) -> None:
    session = await recorder.open({"target": step})
    session.append("request", "client", b"select 1", b'{"at":0,"events":[]}')
    await session.close("client", {})


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
