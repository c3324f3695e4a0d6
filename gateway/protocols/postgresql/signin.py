# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's own login at a target. The method is fixed by the credential: a target that asks
for another one, or for none, is refused (it may be an impostor that talks the gateway down)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from gateway.model import Credential, Refusal, Session, Target
from gateway.protocols import ClientTls, Derive, Failed, Ready, SigninEffect, ToTarget, WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.options import PostgresOptions
from gateway.protocols.postgresql.scram import ScramClient, ScramError, prepared_password
from gateway.protocols.postgresql.startup import StartupRefused, check_setting, named_session

METHODS = ("scram-sha-256", "md5", "password", "certificate", "trust")

_MESSAGE_LIMIT = 64 * 1024
_TOTAL_LIMIT = 512 * 1024
"""Bytes that a target may send in all before it is ready."""
_PARAMETER_LIMIT = 500
_CAUSE_LIMIT = 600
"""Characters of a target's words in the log, cut after our secret was taken out of them."""

_AUTH_OK, _AUTH_PASSWORD, _AUTH_MD5, _AUTH_SASL, _AUTH_CONTINUE, _AUTH_FINAL = 0, 3, 5, 10, 11, 12
_AUTH_NAMES = {
    0: "no password",
    2: "Kerberos",
    3: "a cleartext password",
    5: "an MD5 password",
    7: "GSSAPI",
    9: "SSPI",
    10: "SASL",
}

# Errors that say something of the client's request or of the server's state, and nothing of the
# gateway's credential: the client sees them as the server wrote them.
_RELAYED_STATES = frozenset({"3D000", "55000", "42704", "42501"})
_RELAYED_CLASSES = ("53", "57", "22")


class _Phase(Enum):
    NEW = "not begun"
    SSL_ANSWER = "the answer to SSLRequest"
    TLS = "TLS"
    METHOD = "an authentication request"
    SASL_CONTINUE = "a SCRAM challenge"
    DERIVING = "our own key derivation"
    SASL_FINAL = "the target's SCRAM signature"
    ACCEPTANCE = "the end of authentication"
    SESSION = "the session's start"
    OVER = "nothing"


class _Broken(Exception):
    """The target broke the protocol or cannot be trusted; the text is for the log."""


class PostgresSignin:
    """One login. `nonce`: at least 18 fresh random bytes, used by SCRAM."""

    def __init__(
        self,
        target: Target,
        credential: Credential,
        session: Session,
        settings: Iterable[tuple[str, str]],
        nonce: bytes,
    ) -> None:
        self._target = target
        self._credential = credential
        self._session = session
        self._settings = dict(settings)
        self._nonce = nonce
        options = target.options
        self._options = options if isinstance(options, PostgresOptions) else PostgresOptions()
        self._phase = _Phase.NEW
        self._buffer = bytearray()
        self._received = 0
        self._encrypted = False
        self._binding: bytes | None = None
        self._scram: ScramClient | None = None
        self._parameters: dict[str, str] = {}
        self._notices: list[bytes] = []
        self._process = 0
        self._key = b""

    # --- the contract -----------------------------------------------------------------------------

    def begin(self) -> list[SigninEffect]:
        """The first bytes for the target."""
        try:
            self._check_credential()
        except _Broken as broken:
            return self._failed(str(broken))
        if self._target.tls.mode == "disable":
            return [self._start()]
        self._phase = _Phase.SSL_ANSWER
        return [ToTarget(wire.ssl_request(), own=True)]

    def receive(self, data: bytes) -> list[SigninEffect]:
        """Take bytes of the target, in any pieces."""
        if self._phase is _Phase.OVER:
            return []
        self._received += len(data)
        effects: list[SigninEffect] = []
        try:
            if self._received > _TOTAL_LIMIT:
                raise _Broken(f"more than {_TOTAL_LIMIT} bytes before it was ready")
            self._take(data, effects)
        except (_Broken, ScramError) as broken:
            effects += self._failed(str(broken))
        return effects

    def tls_started(self, channel_binding: bytes | None) -> list[SigninEffect]:
        """TLS is up and the certificate was checked as the target's `tls` says."""
        self._encrypted = True
        self._binding = channel_binding
        return [self._start()]

    def derived(self, salted: bytes) -> list[SigninEffect]:
        """The answer to Derive. May be cached: it depends on Derive's fields alone."""
        if self._phase is not _Phase.DERIVING or self._scram is None:
            return self._failed("a key was derived that nobody asked for")
        self._phase = _Phase.SASL_FINAL
        return [ToTarget(wire.password_message(self._scram.final(salted)), own=True)]

    # --- before the first message -----------------------------------------------------------------

    def _check_credential(self) -> None:
        login = self._credential.login
        if login not in METHODS:
            raise _Broken(f"the login method {login!r} is none of {', '.join(METHODS)}")
        if login in ("scram-sha-256", "md5", "password") and not self._credential.secret:
            raise _Broken(f"the credential has no secret, which {login} needs")
        texts = (self._credential.signs_in_as, self._session.database, self._credential.secret)
        if any("\0" in text for text in texts):
            raise _Broken("the user, database or secret contains a zero byte")
        tls = self._target.tls
        if login == "certificate" and (tls.mode == "disable" or not tls.cert_path):
            raise _Broken("the login method `certificate` needs tls with cert_path")
        if login == "password" and tls.mode == "disable" and not self._local():
            raise _Broken("a cleartext password is sent over TLS or to a loopback address only")
        if login == "trust" and not self._local():
            raise _Broken("the login method `trust` is for targets on a loopback address only")
        for name in self._settings:
            self._check_setting(name)

    def _check_setting(self, name: str) -> None:
        try:
            check_setting(name, self._settings[name])
        except StartupRefused as refused:
            raise _Broken(refused.message) from None

    def _local(self) -> bool:
        host = self._target.host
        return host in ("localhost", "::1") or host.startswith(("/", "127."))

    def _start(self) -> ToTarget:
        self._phase = _Phase.METHOD
        client = dict(self._session.labels).get("application_name", "")
        name = named_session(self._session.id, client) if self._options.name_sessions else client
        parameters = {
            **self._settings,
            "user": self._credential.signs_in_as,
            "database": self._session.database,
            "application_name": name,
        }
        return ToTarget(wire.startup_message(parameters.items()), own=True)

    # --- messages ---------------------------------------------------------------------------------

    def _take(self, data: bytes, effects: list[SigninEffect]) -> None:
        if self._phase is _Phase.SSL_ANSWER:
            self._ssl_answered(data, effects)
            return
        if self._phase in (_Phase.NEW, _Phase.TLS):
            raise _Broken(f"bytes while {self._phase.value} was awaited")
        self._buffer += data
        for kind, body in self._messages():
            self._message(kind, body, effects)
            if self._phase is _Phase.OVER:
                return

    def _ssl_answered(self, data: bytes, effects: list[SigninEffect]) -> None:
        if data[:1] == b"S":
            if len(data) > 1:
                # They were sent in the clear and would be read as protected (CVE-2021-23222).
                raise _Broken("bytes in the clear behind its agreement to TLS")
            self._phase = _Phase.TLS
            effects.append(ClientTls())
        elif data[:1] == b"N":
            raise _Broken(f"it offers no TLS, which `tls.mode: {self._target.tls.mode}` asks for")
        elif data:
            raise _Broken("it answered SSLRequest with neither S nor N")

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        while len(self._buffer) >= 5:
            length = int.from_bytes(self._buffer[1:5], "big")
            if not 4 <= length <= _MESSAGE_LIMIT:
                raise _Broken(f"a message of an invalid length ({length})")
            if len(self._buffer) < 1 + length:
                return
            kind, body = bytes(self._buffer[:1]), bytes(self._buffer[5 : 1 + length])
            del self._buffer[: 1 + length]
            yield kind, body

    def _message(self, kind: bytes, body: bytes, effects: list[SigninEffect]) -> None:
        handlers: dict[bytes, Callable[[bytes, list[SigninEffect]], None]] = {
            b"R": self._authentication,
            b"E": self._error,
            b"N": self._notice,
            b"S": self._parameter,
            b"K": self._backend_key,
            b"Z": self._ready,
        }
        handler = handlers.get(kind)
        if handler is None:
            raise _Broken(f"message {kind!r} while {self._phase.value} was awaited")
        if kind in (b"S", b"K", b"Z") and self._phase is not _Phase.SESSION:
            raise _Broken(f"message {kind!r} before the end of authentication")
        handler(body, effects)

    def _notice(self, body: bytes, effects: list[SigninEffect]) -> None:
        self._notices.append(wire.message(wire.NOTICE_RESPONSE, body))

    def _parameter(self, body: bytes, effects: list[SigninEffect]) -> None:
        try:
            name, value = wire.read_parameter(body, 0, len(body))
        except WireError:
            raise _Broken("a malformed ParameterStatus") from None
        if len(self._parameters) >= _PARAMETER_LIMIT:
            raise _Broken(f"more than {_PARAMETER_LIMIT} parameters")
        self._parameters[name] = value

    def _backend_key(self, body: bytes, effects: list[SigninEffect]) -> None:
        if len(body) != 8:
            raise _Broken("BackendKeyData of an invalid length for protocol 3.0")
        self._process, self._key = int.from_bytes(body[:4], "big"), body[4:]

    def _ready(self, body: bytes, effects: list[SigninEffect]) -> None:
        if body != b"I":
            raise _Broken("ready, but not idle, after the login")
        for kind, late in self._messages():
            if kind not in (b"S", b"N"):
                raise _Broken(f"message {kind!r} that nobody asked for after the login")
            self._message(kind, late, effects)
        if self._buffer:
            raise _Broken("a cut message after the login")
        self._phase = _Phase.OVER
        effects.append(
            Ready(
                process=self._process,
                key=self._key,
                parameters=tuple(self._parameters.items()),
                notices=b"".join(self._notices),
            )
        )

    # --- authentication ---------------------------------------------------------------------------

    def _authentication(self, body: bytes, effects: list[SigninEffect]) -> None:
        if len(body) < 4:
            raise _Broken("a cut authentication request")
        code, rest = int.from_bytes(body[:4], "big"), body[4:]
        if self._phase is _Phase.METHOD:
            self._asked(code, rest, effects)
        elif self._phase is _Phase.SASL_CONTINUE and code == _AUTH_CONTINUE:
            self._challenged(rest, effects)
        elif self._phase is _Phase.SASL_FINAL and code == _AUTH_FINAL:
            self._scram_proved(rest)
        elif self._phase is _Phase.ACCEPTANCE and code == _AUTH_OK and not rest:
            self._phase = _Phase.SESSION
        else:
            raise _Broken(f"authentication request {code} while {self._phase.value} was awaited")

    def _asked(self, code: int, rest: bytes, effects: list[SigninEffect]) -> None:
        """The target names its method: only the credential's own will do."""
        login = self._credential.login
        if code == _AUTH_SASL and login == "scram-sha-256":
            self._begin_scram(rest, effects)
        elif code == _AUTH_MD5 and login == "md5" and len(rest) == 4:
            self._answer(self._md5(rest), effects)
        elif code == _AUTH_PASSWORD and login == "password" and not rest:
            self._answer(self._secret() + b"\0", effects)
        elif code == _AUTH_OK and login in ("certificate", "trust") and not rest:
            self._phase = _Phase.SESSION
        else:
            asked = _AUTH_NAMES.get(code, f"method {code}")
            raise _Broken(f"it asks for {asked}; the credential's method is {login}")

    def _answer(self, secret: bytes, effects: list[SigninEffect]) -> None:
        self._phase = _Phase.ACCEPTANCE
        effects.append(ToTarget(wire.password_message(secret), own=True))

    def _secret(self) -> bytes:
        return self._credential.secret.encode("utf-8", "surrogateescape")

    def _md5(self, salt: bytes) -> bytes:
        """The protocol's own: md5(md5(password + user) + salt), in hexadecimal."""
        user = self._credential.signs_in_as.encode()
        inner = hashlib.md5(self._secret() + user, usedforsecurity=False).hexdigest()
        outer = hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest()
        return b"md5" + outer.encode() + b"\0"

    def _begin_scram(self, rest: bytes, effects: list[SigninEffect]) -> None:
        offered = rest.split(b"\0")
        if len(offered) < 3 or offered[-1] or offered[-2]:
            raise _Broken("a malformed list of SASL mechanisms")
        names = tuple(name.decode("ascii", "replace") for name in offered[:-2])
        most = self._options.scram_iterations_limit
        if "SCRAM-SHA-256-PLUS" in names and not self._encrypted:
            raise _Broken("it offers channel binding on a link without TLS")
        self._scram = scram = ScramClient(self._nonce, names, self._binding, most)
        first = scram.first()
        message = scram.mechanism.encode() + b"\0" + struct.pack("!i", len(first)) + first
        self._phase = _Phase.SASL_CONTINUE
        effects.append(ToTarget(wire.password_message(message), own=True))

    def _challenged(self, message: bytes, effects: list[SigninEffect]) -> None:
        assert self._scram is not None
        self._scram.challenged(message)
        self._phase = _Phase.DERIVING
        password = prepared_password(self._credential.secret)
        effects.append(Derive(password, self._scram.salt, self._scram.iterations))

    def _scram_proved(self, message: bytes) -> None:
        assert self._scram is not None
        self._scram.verify(message)
        self._phase = _Phase.ACCEPTANCE

    # --- failure ----------------------------------------------------------------------------------

    def _error(self, body: bytes, effects: list[SigninEffect]) -> None:
        try:
            fields = wire.read_fields(body, 0, len(body))
        except WireError:
            raise _Broken("a malformed ErrorResponse") from None
        state = fields.get("C", "")
        cause = f"{state or 'no SQLSTATE'}: {fields.get('M', '')}"
        relayed = b""
        secret = self._secret()
        if _relayable(state) and fields.get("M") and not (secret and secret in body):
            relayed = wire.message(wire.ERROR_RESPONSE, body)
        effects += self._failed(f"it refused the login with {cause}", state, relayed)

    def _failed(self, cause: str, state: str = "", relayed: bytes = b"") -> list[SigninEffect]:
        self._phase = _Phase.OVER
        self._buffer.clear()
        if self._credential.secret:
            # A hostile target may send back what it was given.
            cause = cause.replace(self._credential.secret, "[secret]")
        cause = cause[:_CAUSE_LIMIT]
        reason = f"the gateway could not sign in at target {self._target.name}"
        credential_refused = state.startswith("28")
        if credential_refused:
            reason += f": it does not accept the credential {self._credential.name}"
        refusal = Refusal(
            "unavailable",
            "target",
            reason,
            session=self._session.id,
            hint="The gateway's log has the cause under this session's id.",
        )
        cause = f"target {self._target.name}: {cause}"
        return [Failed(refusal, cause, relayed, credential_refused)]


def cancel_request(ready: Ready) -> bytes:
    """CancelRequest for the target's own key; empty when the target gave none."""
    if not ready.key:
        return b""
    return wire.cancel_request(ready.process, ready.key)


def _relayable(state: str) -> bool:
    return state in _RELAYED_STATES or (len(state) == 5 and state.startswith(_RELAYED_CLASSES))
