# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit open`: the record as pages on loopback, on the auditor's machine."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import click

from gateway.admin.api.serving import ServeFailed, serve_api
from gateway.admin.cli._record_options import RecordOptions, record_options, trust_option
from gateway.admin.cli.audit.desk.guard import Guard
from gateway.admin.cli.audit.desk.pages import Desk
from gateway.admin.cli.options import identity_option
from gateway.admin.cli.output import Failed, visible
from gateway.signals import EndSignals
from gateway.verify.findings import CannotCheck
from gateway.verify.run import Request, verify


@click.command(
    "open",
    epilog="""\b
Examples:
  trailgate audit open --data ./evidence --identity identity --trust auditor.vkeys
  trailgate audit open --data s3://evidence/prod --identity identity""",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@trust_option
@identity_option
@record_options
def open_pages(port: int, trust: str | None, identity: Path | None, **place: str | None) -> None:
    """Read the record in a browser on this machine: sessions, statements, results, the verdict.

    It prints an address that works once, for one browser, and runs until SIGINT or SIGTERM. What
    is sealed is opened here; run it where the key is, never on the gateway.

    Exit codes: 0 ended as asked, 2 the record could not be read, or the port is taken.
    """
    options = RecordOptions(**place, trust=trust)
    recorded = options.opened(identity)
    verdict = _Verdict(options, identity or options.own_identity())
    desk = Desk(recorded, options.data or "", verdict.now)
    try:
        asyncio.run(_serve(Guard(desk.application()), port))
    except ServeFailed as error:
        raise Failed(str(error), "name another --port") from error


async def _serve(guard: Guard, port: int) -> None:
    signals = EndSignals()
    serving = await serve_api(guard, host="127.0.0.1", port=port)
    guard.port = serving.port
    click.echo(f"open this once: {guard.address}")
    await signals.wait()
    await serving.close()


class _Verdict:
    """Verifies in the background, once."""

    def __init__(self, options: RecordOptions, identity: Path | None) -> None:
        self._request = Request(
            path=options.data or "",
            trust=Path(options.trust) if options.trust else None,
            identity=identity,
            keys=options.keys,
            endpoint_url=options.endpoint_url,
            region=options.region,
        )
        self._found: dict[str, Any] | None = None
        threading.Thread(target=self._verify, daemon=True).start()

    def now(self) -> dict[str, Any] | None:
        """The verifier's document; None while it is at work."""
        return self._found

    def _verify(self) -> None:
        try:
            self._found = verify(self._request).document()
        except CannotCheck as error:
            self._found = {"ok": False, "cannot": visible(str(error))}
