# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords of PostgreSQL's roles, by ALTER ROLE.

The password itself never goes to the server: what goes there is its SCRAM verifier, as the server
would make it (RFC 5803; src/common/scram-common.c), so that neither its log nor pg_stat_activity
can hold the password.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
import struct
from collections.abc import Hashable, Iterator

from gateway.credentials.rotation import Denied, Door, Unknown, Visit
from gateway.model import Credential, Target

ITERATIONS = 4096
"""PostgreSQL's own default; it guards passwords that people choose, ours has 256 bits."""
SALT_BYTES = 16
SECRET_BYTES = 32
ANSWER_CAP = 64 * 1024
NO_DATABASE = "postgres"
"""It is there on each server, for tools that need some database (initdb makes it)."""
TERMINATE = b"X\0\0\0\4"
_WORDS_CAP = 300


class PostgresqlRotation:
    """The kind that `discover()` finds."""

    name = "postgresql"
    protocol = "postgresql"
    logins = frozenset({"scram-sha-256", "password"})

    def place(self, target: Target) -> Hashable:
        return target.host, target.port

    def new_secret(self) -> str:
        return secrets.token_urlsafe(SECRET_BYTES)

    async def change(
        self, door: Door, target: Target, signed_in: Credential, account: str, secret: str
    ) -> None:
        stored = await asyncio.to_thread(verifier, secret, os.urandom(SALT_BYTES))
        await _run(door, target, signed_in, f"ALTER ROLE {_quoted(account)} PASSWORD '{stored}'")

    async def prove(self, door: Door, target: Target, credential: Credential) -> None:
        _leave(await door.enter(target, credential, _database(target)))

    async def withdraw(
        self, door: Door, target: Target, signed_in: Credential, account: str
    ) -> None:
        await _run(door, target, signed_in, f"ALTER ROLE {_quoted(account)} PASSWORD NULL")


KIND = PostgresqlRotation()


def verifier(secret: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """What PostgreSQL keeps of an ASCII password (which SASLprep leaves as it is)."""
    salted = hashlib.pbkdf2_hmac("sha256", secret.encode("ascii"), salt, iterations)
    stored_key = hashlib.sha256(_mac(salted, b"Client Key")).digest()
    parts = [
        base64.b64encode(part).decode() for part in (salt, stored_key, _mac(salted, b"Server Key"))
    ]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _quoted(name: str) -> str:
    """An identifier; a name with a zero byte could not have been signed in with."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _database(target: Target) -> str:
    return next((name for name in target.databases if name != "*"), NO_DATABASE)


async def _run(door: Door, target: Target, signed_in: Credential, sql: str) -> None:
    """One statement. Raises as `Kind.change`."""
    visit = await door.enter(target, signed_in, _database(target))
    try:
        visit.send(_query(sql))
        failed = await _answer(visit)
    except (ConnectionError, TimeoutError) as error:
        raise Unknown(f"target {target.name} fell silent at ALTER ROLE: {error}") from None
    finally:
        _leave(visit)
    if failed:
        raise Denied(
            f"target {target.name} refused ALTER ROLE as {signed_in.signs_in_as}: {failed}"
        )


def _leave(visit: Visit) -> None:
    visit.send(TERMINATE)
    visit.leave()


def _query(sql: str) -> bytes:
    body = sql.encode("utf-8") + b"\0"
    return b"Q" + struct.pack("!I", len(body) + 4) + body


async def _answer(visit: Visit) -> str:
    """The server's error up to its ready-for-query; empty: it is done."""
    buffer, failed, done = b"", "", False
    while True:
        buffer += await visit.receive()
        if len(buffer) > ANSWER_CAP:
            raise ConnectionError("its answer is too long")
        messages, buffer = _messages(buffer)
        for kind, body in messages:
            if kind == b"E":
                failed = _error(body)
            elif kind == b"C":
                done = True
            elif kind == b"Z":
                if done or failed:
                    return failed
                raise ConnectionError("it did not say what became of the statement")


def _messages(buffer: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Whole messages, and what is left. Raises ConnectionError."""
    found, at = list[tuple[bytes, bytes]](), 0
    while len(buffer) - at >= 5:
        length = int.from_bytes(buffer[at + 1 : at + 5], "big")
        if length < 4:
            raise ConnectionError("it sent a malformed message")
        if len(buffer) - at < length + 1:
            break
        found.append((buffer[at : at + 1], buffer[at + 5 : at + 1 + length]))
        at += length + 1
    return found, buffer[at:]


def _error(body: bytes) -> str:
    fields = dict(_fields(body))
    return f"{fields.get('C', '')} {fields.get('M', '')}"[:_WORDS_CAP]


def _fields(body: bytes) -> Iterator[tuple[str, str]]:
    for part in body.split(b"\0"):
        if part:
            yield part[:1].decode("ascii", "replace"), part[1:].decode("utf-8", "replace")
