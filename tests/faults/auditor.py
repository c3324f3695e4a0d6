# SPDX-License-Identifier: GPL-3.0-or-later
"""An auditor with a witness of their own, and a gateway that is witnessed by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.record.recorder import NodeRecorder
from gateway.ship.witness import WitnessClient, WitnessKey
from gateway.verify.findings import Findings
from gateway.verify.run import Request, verify
from gateway.witness.keeper import Witness
from gateway.witness.serving import WitnessServer
from tests.record.place import Place


class Auditor:
    """A witness's folder, served on loopback once `serve` is called."""

    def __init__(
        self, root: Path, *places: Place, name: str = "witness.example", port: int = 0
    ) -> None:
        self.folder = root / "witness"
        vkeys = [path.read_text() for one in places for path in one.evidence.glob("log/*/*/*.vkey")]
        self.witness = Witness.open(self.folder, name, [one.strip() for one in vkeys])
        self._server: WitnessServer | None = None
        self._port, self.url = port, ""

    @classmethod
    def by_root(cls, root: Path, vkey: str) -> Auditor:
        """Whose witness knows a root, and no log."""
        auditor = cls.__new__(cls)
        auditor.folder = root / "witness"
        auditor.witness = Witness.open(auditor.folder, "witness.example", roots=[vkey])
        auditor._server, auditor._port, auditor.url = None, 0, ""
        return auditor

    def serve(self) -> None:
        self._server = WitnessServer(("127.0.0.1", self._port), self.witness)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def end(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self.witness.close()

    @property
    def key_text(self) -> str:
        return self.witness.vkey.text()

    @property
    def key(self) -> WitnessKey:
        return WitnessKey.parse(self.key_text)

    def client(self, place: Place, seconds: float = 10.0) -> WitnessClient:
        return WitnessClient(place.evidence / "log" / "gw1", self.url, self.key, seconds)

    async def cosign(self, place: Place) -> None:
        """One pass of the gateway's client."""
        client = self.client(place)
        try:
            await client.cosign()
        finally:
            await client.close()

    def verify(self, place: Place, **options: Any) -> Findings:
        """As the auditor does: with everything that the witness knows."""
        return verify(Request(str(place.data), trust=self.folder, **options))


async def worked(place: Place, sessions: int = 1, turns: int = 3) -> NodeRecorder:
    """A gateway that recorded closed sessions and runs on."""
    recorder = await place.start()
    for _ in range(sessions):
        session = await recorder.open({"target": "t"})
        for turn in range(turns):
            session.append("request", "client", b"select 1", b'{"at":0}', turn + 1)
        await session.close("client", {})
    await recorder._log.sign()
    return recorder


async def day(place: Place, sessions: int = 1) -> None:
    """A start, sessions, a stop."""
    await (await worked(place, sessions)).stop()


async def until(true: Callable[[], bool]) -> None:
    """Wait for it; the runner's timeout ends a wait in vain."""
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


def kinds(findings: Findings) -> set[str]:
    return {defect.kind for defect in findings.defects}
