# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorders that kill themselves (SIGKILL) before a chosen change of the file system.

`python -m tests.record.killed_child SEED`, then a line a run: `FOLDER NUMBER`. Each run is a fork;
the answer is a line: `killed`, or `ended` when there were fewer changes.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from tests.record.place import Place

_CHANGES = {
    "os.rename", "os.remove", "os.truncate", "os.link", "os.mkdir", "os.rmdir", "os.chmod",
}  # fmt: skip


def kill_before_change(number: int) -> None:
    """Audit events come before the call that they announce (PEP 578), from every thread."""
    left = number

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        writes = (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if event in _CHANGES or writes:
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(hook)


async def story(place: Place, draw: random.Random) -> None:
    """Sessions over several small files, some closed, refusals, a policy, and a stop."""
    recorder = await place.start(
        file_bytes=32 << 10, checkpoint_seconds=0.005, rotate_seconds=0.02, sync_seconds=0.001
    )
    await recorder.policy_in_force("p", b"policy: p\n")
    opened = await asyncio.gather(*(recorder.open({"target": "t"}) for _ in range(3)))
    for turn in range(60):
        for one in opened:
            one.append("request", "client", draw.randbytes(draw.randrange(1, 900)), b'{"at":0}')
        recorder.refused({"code": "bad_token"})
        if turn == 30:
            await opened[0].close("client", {"detail": "", "rows": turn})
            opened[0] = await recorder.open({"target": "late"})
        await asyncio.sleep(0.001)
    for one in opened:
        await one.close("client", {})
    await recorder.stop()


def run(folder: Path, number: int, seed: int) -> bool:
    """Whether the run was killed."""
    child = os.fork()
    if not child:
        kill_before_change(number)
        asyncio.run(story(Place(folder), random.Random(seed)))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        raise SystemExit(f"run {number} failed")
    return os.WIFSIGNALED(status)


def main() -> None:
    seed = int(sys.argv[1])
    for line in sys.stdin:
        folder, number = line.split()
        killed = run(Path(folder), int(number), seed)
        print("killed" if killed else "ended", flush=True)


if __name__ == "__main__":
    main()
