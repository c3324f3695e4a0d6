# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends each checkpoint to a witness, and keeps what it cosigned beside it (C2SP tlog-witness).

Directly, not through the store that the operator rules; off the data path. A witness that is slow
or away delays nothing: the newest checkpoint is sent once it answers again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.outgoing import outgoing_client
from gateway.ship import ShipFailed
from gateway.ship.proofs import TileHashes, consistency_proof
from gateway.ship.spool import delays

log = logging.getLogger("trailgate.ship")

_COSIGNATURE = b"\x04"
_MOST_ANSWER = 65536
_KEPT_SECONDS = 60.0
_SIZE_TYPE = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's verifier key, NAME+HASH+BASE64 of type 4 (C2SP tlog-cosignature)."""

    name: str
    hash: bytes
    public: bytes

    @staticmethod
    def parse(text: str) -> WitnessKey:
        """Raises ValueError."""
        name, digest, encoded = text.split("+", 2)
        data = base64.b64decode(encoded, validate=True)
        expected = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
        if data[:1] != _COSIGNATURE or len(data) != 33 or expected.hex() != digest or not name:
            raise ValueError("is no key of a witness")
        return WitnessKey(name, expected, data[1:])

    def line(self, answer: bytes, body: bytes) -> bytes:
        """This witness's line of an answer, verified. Raises ShipFailed."""
        mark = f"\u2014 {self.name} ".encode()
        for line in answer.split(b"\n"):
            if not line.startswith(mark):
                continue
            try:
                data = base64.b64decode(line[len(mark) :], validate=True)
                at = int.from_bytes(data[4:12], "big")
                signed = b"cosignature/v1\ntime %d\n" % at + body
                Ed25519PublicKey.from_public_bytes(self.public).verify(data[12:], signed)
            except (ValueError, InvalidSignature):
                continue
            if data[:4] == self.hash and base64.b64encode(data) == line[len(mark) :]:
                return line + b"\n"
        raise ShipFailed(f"the witness's answer has no cosignature of {self.name}")


class WitnessClient:
    """One pass has the newest checkpoint of each of a node's logs cosigned."""

    def __init__(
        self,
        logs: Path,
        url: str,
        key: WitnessKey,
        seconds: float = 10.0,
        lock: threading.Lock | None = None,
    ) -> None:
        """`lock`: shared by all clients that write beside these logs."""
        self._lock = lock or threading.Lock()
        self._logs = logs
        self._url = url.rstrip("/")
        self._key = key
        self._client = outgoing_client(
            httpx.create_ssl_context(trust_env=False), httpx.Timeout(seconds), proxied=False
        )
        self._sizes: dict[str, int] = {}
        self._kept: dict[str, tuple[float, int]] = {}
        """When a cosignature was last kept for good, and the one behind it that may yet go."""
        self._given_up: set[str] = set()
        self._waits = delays()
        self._heard = time.monotonic()
        self.failures = 0
        """Answers that were no cosignature, or none at all."""
        self.size = 0
        """Of the newest checkpoint that was cosigned."""
        self.cause = ""
        """Why the last pass failed; empty: it did not."""

    @property
    def shown(self) -> str:
        """Its name and where it is, for people."""
        return f"{self._key.name} at {self._url}"

    @property
    def silent_seconds(self) -> float:
        """Since the witness last cosigned, or had nothing to cosign."""
        return time.monotonic() - self._heard

    async def close(self) -> None:
        await self._client.aclose()

    async def run(
        self, every: float = 1.0, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Pass after pass until cancelled; backs off while the witness fails."""
        while True:
            await sleep(await self.attempt() or every)

    async def attempt(self) -> float:
        """One pass; how long to wait because it failed, in seconds. 0: it did not."""
        try:
            await self.cosign()
        except (ShipFailed, OSError) as error:
            self._failed(str(error))
            return next(self._waits)
        self._waits = delays()
        return 0.0

    def _failed(self, cause: str) -> None:
        self.failures += 1
        if cause != self.cause:
            log.error("the record is not witnessed", extra={"cause": cause, "url": self._url})
        self.cause = cause

    async def cosign(self) -> None:
        """One pass. Raises ShipFailed, OSError."""
        newest, older = await asyncio.to_thread(_uncosigned, self._logs, self._key.name)
        if newest is not None:
            await self._cosign(newest)
        for folder in older:
            if folder.name not in self._given_up:
                await self._cosign_older(folder)
        if self.cause:
            log.warning("the record is witnessed again", extra={"size": self.size})
        self._heard, self.cause = time.monotonic(), ""

    async def _cosign(self, folder: Path) -> None:
        note = await asyncio.to_thread((folder / "checkpoint").read_bytes)
        body, size = note.partition(b"\n\n")[0] + b"\n", int(note.split(b"\n")[1])
        answer = await self._ask(folder, note, size)
        line = self._key.line(answer, body)
        await asyncio.to_thread(self._put, folder / "cosigned" / str(size), note, line)
        await asyncio.to_thread(self._forget, folder, size)
        self._sizes[folder.name] = self.size = size

    def _put(self, path: Path, note: bytes, line: bytes) -> None:
        """Beside the lines that other witnesses gave for the same checkpoint."""
        with self._lock:
            there = path.read_bytes() if path.exists() else note
            if f"\n\u2014 {self._key.name} ".encode() not in there:
                _put(path, (there if there.startswith(note) else note) + line)

    def _forget(self, folder: Path, size: int) -> None:
        """Of cosignatures less than a minute apart the newest is kept: it holds the others."""
        now, (kept_at, before) = time.monotonic(), self._kept.get(folder.name, (-math.inf, 0))
        if now - kept_at >= _KEPT_SECONDS:
            self._kept[folder.name] = now, 0
            return
        if before:
            (folder / "cosigned" / str(before)).unlink(missing_ok=True)
        self._kept[folder.name] = kept_at, size

    async def _cosign_older(self, folder: Path) -> None:
        """A log that was ended: whether the witness serves it is not the newest one's matter."""
        try:
            await self._cosign(folder)
        except ShipFailed as error:
            self._given_up.add(folder.name)
            log.warning("an ended log is not witnessed", extra={"cause": str(error)})

    async def _ask(self, folder: Path, note: bytes, size: int) -> bytes:
        """The cosignature lines. A 409 tells what the witness saw last: from there once more; a
        404 or 403 that it does not know the log or its key: told of them, it is asked again."""
        old, told = self._sizes.get(folder.name, 0), False
        for attempt in range(3):
            request = await asyncio.to_thread(_request, folder, note, old, size)
            status, kind, answer = await self._post("add-checkpoint", request)
            if status == 200:
                return answer
            if status in (403, 404) and not told:
                told = True
                if await self._tell_keys(folder):
                    continue
            if status != 409 or not kind.startswith(_SIZE_TYPE) or attempt == 2:
                break
            known = answer.strip()[:20]
            if not known.isdigit() or int(known) == old:
                break
            old = int(known)
            if old > size:
                raise ShipFailed(
                    f"{folder}: the witness saw {old} leaves, and {size} are here: the log was "
                    "put back to an older state, or its key is used twice"
                )
        text = answer[:200].decode("utf-8", "replace").strip()
        raise ShipFailed(f"the witness refused {size} leaves of {folder.name}: {status} {text}")

    async def _tell_keys(self, folder: Path) -> bool:
        """Offer certificates, then rotations in their order; whether the witness took one."""
        taken = False
        for statement in await asyncio.to_thread(_statements, folder):
            status, _, _ = await self._post("add-key", statement)
            taken = taken or status == 200
        return taken

    async def latest(self, origin: str) -> bytes | None:
        """The latest checkpoint that the witness cosigned of this log; None where it tells none.

        Raises ShipFailed.
        """
        name = hashlib.sha256(origin.encode()).hexdigest()
        status, _, answer = await self._call("GET", f"{name}/checkpoint", b"")
        if status != 200 or not answer.startswith(origin.encode() + b"\n"):
            return None
        self._key.line(answer, answer.partition(b"\n\n")[0] + b"\n")
        return answer

    async def _post(self, call: str, request: bytes) -> tuple[int, str, bytes]:
        return await self._call("POST", call, request)

    async def _call(self, method: str, call: str, request: bytes) -> tuple[int, str, bytes]:
        try:
            async with self._client.stream(
                method, f"{self._url}/{call}", content=request
            ) as answer:
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > _MOST_ANSWER:
                        raise ShipFailed("the witness's answer is too long")
                return answer.status_code, answer.headers.get("content-type", ""), body
        except httpx.HTTPError as error:
            cause = f"{type(error).__name__} {error}".strip()
            raise ShipFailed(f"the witness does not answer: {cause}") from error


def _uncosigned(logs: Path, name: str) -> tuple[Path | None, list[Path]]:
    """The newest log, and older ones, whose checkpoint this witness has not cosigned yet."""
    mark = f"\n\u2014 {name} ".encode()
    found = [path for path in logs.glob("*/checkpoint") if path.parent.name.isdigit()]
    folders = sorted((path.parent for path in found), key=lambda folder: -int(folder.name))
    left = [one for one in folders if mark not in _read(one / "cosigned" / _size(one))]
    newest = left[0] if left and left[0] == folders[0] else None
    return newest, [one for one in left if one != newest]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _size(folder: Path) -> str:
    return (folder / "checkpoint").read_bytes().split(b"\n")[1].decode()


def _statements(folder: Path) -> list[bytes]:
    certificates = sorted((folder / "certificates").glob("[0-9a-f]*"))
    rotated = sorted((folder / "rotated").glob("[0-9]*"), key=lambda path: int(path.name))
    return [path.read_bytes()[:_MOST_ANSWER] for path in (*certificates, *rotated)]


def _request(folder: Path, note: bytes, old: int, size: int) -> bytes:
    proof = consistency_proof(old, size, TileHashes.of_folder(folder, size).root)
    lines = [f"old {old}", *(base64.b64encode(hashed).decode() for hashed in proof)]
    return ("\n".join(lines) + "\n\n").encode() + note


def _put(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    unfinished = path.parent / ".unfinished"
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, path)
