# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL, protocol 3: what the gateway needs to know of it, in one object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gateway.model import Credential, RecordedFrame, Session, Target
from gateway.protocols import Ready
from gateway.protocols.postgresql.dialog import PostgresDialog
from gateway.protocols.postgresql.login import PostgresGreeter, PostgresSignin, cancel_request
from gateway.protocols.postgresql.options import PostgresOptions
from gateway.protocols.postgresql.replay import replay


class PostgresProtocol:
    """The definition that `discover()` finds."""

    name = "postgresql"
    default_port = 5432
    listener_port = 15432
    language = "sql"
    options = PostgresOptions

    def greeter(self, *, plain: bool, loopback: bool) -> PostgresGreeter:
        return PostgresGreeter(plain=plain, loopback=loopback)

    def signin(
        self,
        target: Target,
        credential: Credential,
        session: Session,
        settings: Iterable[tuple[str, str]],
        nonce: bytes,
    ) -> PostgresSignin:
        return PostgresSignin(target, credential, session, settings, nonce)

    def dialog(self, session: Session, ready: Ready) -> PostgresDialog:
        return PostgresDialog(session, ready)

    def cancel_request(self, ready: Ready) -> bytes:
        return cancel_request(ready)

    def replay(
        self, frames: Iterable[RecordedFrame], rows_per_piece: int | None = None
    ) -> Iterator[dict[str, Any]]:
        return replay(frames, rows_per_piece)


PROTOCOL = PostgresProtocol()
