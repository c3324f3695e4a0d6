# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's side of a login: TLS negotiation, start-up packet, token, and the welcome."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from gateway.model import Refusal, Session
from gateway.protocols import (
    Cancel,
    Close,
    LoginEffect,
    Present,
    Ready,
    StartTls,
    ToClient,
    WireError,
)
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.startup import (
    PACKET_LIMIT,
    Startup,
    StartupRefused,
    parse_startup,
)

TOKEN_LIMIT = 16 * 1024
"""Longest token in bytes."""
LEFTOVER_LIMIT = 64 * 1024
"""Most bytes that a client may send ahead while its token is checked."""
ALPN = "postgresql"

_TLS_HANDSHAKE = 0x16
_CANCEL_KEY_LIMIT = 256


class _Phase(Enum):
    PACKET = "a start-up packet is awaited"
    TLS = "TLS is being set up"
    TOKEN = "the token is awaited"
    PRESENTED = "the token is being checked"
    CLOSED = "the link is to be closed"


class PostgresGreeter:
    """One client until it is let in. A refusal is a FATAL error in PostgreSQL's words, but for
    bytes that cannot be a start-up packet: as at the server, the link just ends.

    `plain`: the listener may take a link without TLS; it does so only when it is bound to a
    loopback address (`loopback`). `tls`: the listener has a certificate.
    """

    def __init__(self, *, plain: bool, loopback: bool, tls: bool = True) -> None:
        self._plain_allowed = plain and loopback
        self._tls_offered = tls
        self._phase = _Phase.PACKET
        self._buffer = bytearray()
        self._untouched = True
        self._encrypted = False
        self._tls_asked = False
        self._gss_asked = False
        self._alpn_required = False
        self._startup = Startup("", "")

    def receive(self, data: bytes) -> list[LoginEffect]:
        """Take bytes of the client, in any pieces."""
        if self._phase is _Phase.CLOSED:
            return []
        if self._phase is _Phase.TLS:
            raise WireError("bytes in the clear while TLS is being set up")
        self._buffer += data
        effects: list[LoginEffect] = []
        try:
            while self._step(effects):
                pass
        except StartupRefused as refused:
            effects += self._fatal(refused.sqlstate, refused.message, hint=refused.hint)
        return effects

    def tls_started(self, alpn: str | None) -> list[LoginEffect]:
        """TLS is up; `alpn` is what was agreed on."""
        self._encrypted = True
        if self._alpn_required and alpn != ALPN:
            # Another protocol's client was led here (ALPACA): nothing of it is interpreted.
            self._phase = _Phase.CLOSED
            return [Close("protocol", "direct TLS without the ALPN protocol `postgresql`")]
        self._phase = _Phase.PACKET
        return []

    def refused(self, refusal: Refusal) -> list[LoginEffect]:
        """The client may not come in."""
        self._phase = _Phase.CLOSED
        self._buffer.clear()
        said = refusal
        if refusal.code in ("expired", "revoked"):
            # Of a token at login it is 28P01; 57P01 is for sessions that end by it.
            said = replace(refusal, code="bad_token")
        return [
            ToClient(wire.refusal_error(said, "FATAL"), own=True),
            Close("refused", refusal.code),
        ]

    def welcome(self, session: Session, ready: Ready, key: bytes) -> bytes:
        """The end of authentication. `key`: 4 bytes of our own; the target's stays here."""
        named = {name: value for name, value in ready.parameters if name != "application_name"}
        named["application_name"] = self._startup.application_name
        parts = [wire.authentication_ok()]
        parts += [wire.parameter_status(name, value) for name, value in named.items()]
        parts.append(wire.backend_key_data(ready.process, key))
        parts += [ready.notices, wire.ready_for_query("I")]
        return b"".join(parts)

    def leftover(self) -> bytes:
        """Bytes behind the login, once."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    # --- one step ---------------------------------------------------------------------------------

    def _step(self, effects: list[LoginEffect]) -> bool:
        """Handle one packet or message; False when there is none to handle."""
        if not self._buffer:
            return False
        if self._phase is _Phase.PACKET:
            return self._packet(effects)
        if self._phase is _Phase.TOKEN:
            return self._password(effects)
        if self._phase is _Phase.PRESENTED and len(self._buffer) > LEFTOVER_LIMIT:
            raise StartupRefused("08P01", "trailgate: too many bytes sent before the login ended")
        return False

    def _packet(self, effects: list[LoginEffect]) -> bool:
        if self._untouched and self._buffer[0] == _TLS_HANDSHAKE:
            self._begin_direct_tls(effects)
            return False
        if len(self._buffer) < 4:
            return False
        length = int.from_bytes(self._buffer[:4], "big")
        if not 8 <= length <= PACKET_LIMIT:
            # Terminate of a client that left at once, a scanner, HTTP: none reads an ErrorResponse,
            # and the server logs it only (COMMERROR in ProcessStartupPacket).
            self._phase = _Phase.CLOSED
            self._buffer.clear()
            effects.append(Close("protocol", "invalid length of startup packet"))
            return False
        if len(self._buffer) < length:
            return False
        code = int.from_bytes(self._buffer[4:8], "big")
        body = bytes(self._buffer[8:length])
        del self._buffer[:length]
        self._untouched = False
        self._packet_of(code, body, effects)
        return True

    def _packet_of(self, code: int, body: bytes, effects: list[LoginEffect]) -> None:
        if code == wire.CANCEL_REQUEST:
            self._cancel(body, effects)
        elif code == wire.SSL_REQUEST and not (self._tls_asked or self._encrypted):
            self._alone(body)
            self._tls_asked = True
            self._answer_ssl_request(effects)
        elif code == wire.GSSENC_REQUEST and not (self._gss_asked or self._encrypted):
            self._alone(body)
            self._gss_asked = True
            effects.append(ToClient(b"N", own=True))
        else:
            self._start(code, body, effects)

    def _alone(self, body: bytes) -> None:
        """Bytes sent ahead of TLS may be an attacker's, read later as safe (CVE-2021-23214)."""
        if body:
            raise StartupRefused("08P01", "invalid length of startup packet")
        if self._buffer:
            raise StartupRefused("08P01", "received unencrypted data after an encryption request")

    def _begin_direct_tls(self, effects: list[LoginEffect]) -> None:
        if not self._tls_offered:
            self._phase = _Phase.CLOSED
            effects.append(Close("protocol", "direct TLS on a listener without a certificate"))
            return
        self._phase = _Phase.TLS
        self._untouched = False
        self._alpn_required = True
        effects.append(StartTls(pushed_back=self.leftover(), alpn=ALPN))

    def _answer_ssl_request(self, effects: list[LoginEffect]) -> None:
        if not self._tls_offered:
            effects.append(ToClient(b"N", own=True))
            return
        self._phase = _Phase.TLS
        effects += [ToClient(b"S", own=True), StartTls()]

    def _cancel(self, body: bytes, effects: list[LoginEffect]) -> None:
        """Taken in plain text too: libpq before 17 cancels TLS sessions so. Keys of protocol 3.2
        may have up to 256 bytes."""
        self._phase = _Phase.CLOSED
        self._buffer.clear()
        if not 8 <= len(body) <= 4 + _CANCEL_KEY_LIMIT:
            effects.append(Close("protocol", "cancel request of an invalid length"))
            return
        effects.append(Cancel(int.from_bytes(body[:4], "big"), body[4:]))

    def _start(self, version: int, body: bytes, effects: list[LoginEffect]) -> None:
        if not (self._encrypted or self._plain_allowed):
            # Before any token is asked for: it would cross the network in the clear.
            effects += self.refused(
                Refusal(
                    "denied",
                    "no_tls",
                    "this listener takes TLS connections only",
                    hint="Connect with sslmode=verify-full (or at least sslmode=require).",
                )
            )
            return
        self._startup = startup = parse_startup(version, body)
        if startup.minor or startup.unknown_options:
            effects.append(
                ToClient(
                    wire.negotiate_protocol_version(wire.PROTOCOL_3_0, startup.unknown_options),
                    own=True,
                )
            )
        effects.append(ToClient(wire.authentication_cleartext_password(), own=True))
        self._phase = _Phase.TOKEN

    def _password(self, effects: list[LoginEffect]) -> bool:
        kind = self._buffer[0]
        if kind == ord("X"):
            self._phase = _Phase.CLOSED
            effects.append(Close("client", "left before it presented a token"))
            return False
        if kind != ord("p"):
            raise StartupRefused("08P01", f"expected password response, got message type {kind}")
        if len(self._buffer) < 5:
            return False
        length = int.from_bytes(self._buffer[1:5], "big")
        if not 5 <= length <= TOKEN_LIMIT + 5:
            raise StartupRefused("08P01", "invalid password packet size")
        if len(self._buffer) < 1 + length:
            return False
        secret = bytes(self._buffer[5 : 1 + length])
        del self._buffer[: 1 + length]
        self._present(secret, effects)
        return True

    def _present(self, secret: bytes, effects: list[LoginEffect]) -> None:
        if secret[-1] != 0 or secret.count(0) != 1:
            raise StartupRefused("08P01", "invalid password packet size")
        if len(secret) == 1:
            raise StartupRefused(
                "28P01",
                "trailgate: empty password returned by client",
                "The password is a token: use the output of `trailgate token`.",
            )
        try:
            token = secret[:-1].decode("ascii")
        except UnicodeDecodeError:
            raise StartupRefused("28P01", "trailgate: the password is not a token") from None
        self._phase = _Phase.PRESENTED
        startup = self._startup
        effects.append(
            Present(token, startup.user, startup.database, startup.settings, startup.labels)
        )

    def _fatal(self, sqlstate: str, message: str, *, hint: str) -> list[LoginEffect]:
        self._phase = _Phase.CLOSED
        self._buffer.clear()
        reason = "protocol" if sqlstate == "08P01" else "refused"
        error = wire.error_response(sqlstate, message, severity="FATAL", hint=hint)
        return [ToClient(error, own=True), Close(reason, message)]
