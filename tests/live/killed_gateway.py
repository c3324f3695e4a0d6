# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway that dies at one moment of a rotation: `python killed_gateway.py CONFIG MOMENT`.

MOMENT is what `OnStep` is told; at that word the process is killed as by kill -9. `none`: never.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import uvloop

from gateway.app import running
from gateway.config import load_objects, load_settings
from gateway.logs import configure
from gateway.signals import EndSignals
from gateway.vault_model import Rotation


async def main(config: Path, moment: str) -> None:
    settings, _ = load_settings(config)
    objects, _ = load_objects(settings.objects)

    def on_step(event: str, rotation: Rotation) -> None:
        if event == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    signals = EndSignals()
    async with running(settings, objects, on_step=on_step) as gateway:
        await signals.wait(gateway.record_failed)


if __name__ == "__main__":
    configure("info")
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2]))
