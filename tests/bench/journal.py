# SPDX-License-Identifier: GPL-3.0-or-later
"""What one frame costs the loop: `python -m tests.bench.journal`. Real files, sync every 20 ms."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from gateway.record.recipients import make_recipient
from gateway.record.recorder import NodeRecorder, RecorderOptions
from gateway.ship.folder import FolderPublisher

META = b'{"at":12345,"events":[{"ev":"settled","state":"I"}]}'
RUNS = 5


async def frames(recorder: NodeRecorder, payload: bytes, count: int) -> float:
    """Seconds a frame, the loop's turns not counted."""
    session = await recorder.open({"target": "bench"})
    spent = 0.0
    for _ in range(0, count, 100):
        started = time.perf_counter()
        for _ in range(100):
            session.append("request", "client", payload, META, 7)
        spent += time.perf_counter() - started
        await asyncio.sleep(0)
    await session.close("client", {})
    return spent / count


async def opening(recorder: NodeRecorder, together: int) -> float:
    """Seconds until all of so many sessions are open."""
    started = time.perf_counter()
    sessions = await asyncio.gather(*(recorder.open({"target": "b"}) for _ in range(together)))
    spent = time.perf_counter() - started
    for session in sessions:
        await session.close("client", {})
    return spent


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        data = Path(folder)
        recipient = make_recipient(data / "auditor")
        publisher = FolderPublisher(data / "evidence")
        recorder = await NodeRecorder.start(
            RecorderOptions(data, data / "evidence", "bench", "0", (recipient,), publisher.publish)
        )
        text = b"select id, name, balance from accounts where id = 4711; " * 2000
        for size, count in ((0, 20000), (64, 20000), (512, 20000), (65536, 2000)):
            for what, source in (("random", os.urandom(max(size, 1))), ("text", text)):
                times = [await frames(recorder, source[:size], count) for _ in range(RUNS)]
                best, middle = min(times), sorted(times)[RUNS // 2]
                print(f"{size:6} B {what:6}: {middle * 1e6:7.2f} us a frame (best {best * 1e6:.2f})"
                      f", {size / middle / 1e6:7.1f} MB/s")  # fmt: skip
        for together in (1, 10, 100):
            times = sorted([await opening(recorder, together) for _ in range(20)])
            print(f"{together:4} sessions open in {times[10] * 1e3:.2f} ms")
        await recorder.stop(60.0)


if __name__ == "__main__":
    asyncio.run(main())
