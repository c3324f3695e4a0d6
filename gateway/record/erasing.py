# SPDX-License-Identifier: GPL-3.0-or-later
"""Erasing a session's key: what was sealed under it can never be opened again, and every proof
still holds.

A marker in DATA/journal, a `key.erase` leaf that is signed (and witnessed, where there is a
witness), and only then the wraps go: here, and in the store. A kill at any moment is made up for at
the next start. A store that keeps a wrap under its lock is asked again until it lets go.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol as Interface

from gateway.model import RecordFailed
from gateway.record import durable, openings
from gateway.record.frames import canonical
from gateway.record.log import NodeLog

log = logging.getLogger("trailgate.record")

_SUFFIX = ".erase"
_MOST_WAIT_SECONDS = 3600.0
ASKED, EXPIRED = "asked", "expired"


class EraseRefused(ValueError):
    """The session cannot be erased (yet). The text says why."""


class Elsewhere(Interface):
    """Where wrapped keys lie besides the folder keys/."""

    async def wraps(self, session: str) -> dict[str, bytes]:
        """Wrap files by name, `<session>/<sha256>.wrap`."""

    async def erase(self, session: str) -> None:
        """Delete them in all their versions; raises when one is left."""


async def _no_hold(session: str) -> str:
    return ""


def no_witness(leaves: int) -> str:
    """There is none to wait for."""
    return ""


@dataclass(frozen=True, slots=True)
class Marker:
    """An erasure that is not complete. `leaf`: -1 until its leaf was signed."""

    session: str
    reason: str
    wraps: tuple[tuple[str, str], ...]
    """(recipient, SHA-256)"""
    leaf: int = -1

    def write(self, folder: Path) -> None:
        """Raises OSError. Blocks."""
        fields = {"session": self.session, "reason": self.reason, "leaf": self.leaf}
        data = canonical({**fields, "wraps": [list(one) for one in self.wraps]})
        path = folder / f"{self.session}{_SUFFIX}"
        durable.put(path, data, folder / ".unfinished-erase", 0o600)

    @staticmethod
    def read_all(folder: Path) -> list[Marker]:
        """What earlier runs began. Raises OSError."""
        found = []
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            fields = json.loads(path.read_bytes())
            wraps = tuple((recipient, digest) for recipient, digest in fields["wraps"])
            found.append(Marker(fields["session"], fields["reason"], wraps, fields["leaf"]))
        return found


class Erasures:
    """Erases one session at a time. On the loop only."""

    def __init__(
        self,
        folder: Path,
        keys: Path,
        node_log: NodeLog,
        is_open: Callable[[str], bool],
        elsewhere: Elsewhere | None = None,
        unwitnessed: Callable[[int], str] = no_witness,
        first_wait_seconds: float = 1.0,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._log = node_log
        self._is_open = is_open
        self._elsewhere = elsewhere
        self._unwitnessed = unwitnessed
        self._first_wait = first_wait_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._causes: dict[str, str] = {}
        self.held: Callable[[str], Awaitable[str]] = _no_hold
        """Asked before anything is deleted: the legal hold that covers a session; empty: none."""
        self.done = 0

    @property
    def pending(self) -> int:
        """Erasures that are signed, or about to be, and not complete."""
        return len(self._tasks)

    async def resume(self) -> None:
        """Go on with what earlier runs began. Raises OSError."""
        for marker in await asyncio.to_thread(Marker.read_all, self._folder):
            self._go_on(marker)

    async def erase(self, session: str, reason: str = ASKED) -> None:
        """Begin. Raises EraseRefused, RecordFailed, OSError; `wait` tells how it went on."""
        if session in self._tasks:
            return
        if self._is_open(session):
            raise EraseRefused(f"session {session} is open: end it first")
        if hold := await self.held(session):
            raise EraseRefused(f"session {session} is under the legal hold {hold}")
        wraps = await self._wraps(session)
        if not wraps:
            raise EraseRefused(f"session {session} has no wrapped key: erased, or of another node")
        marker = Marker(session, reason, wraps)
        await asyncio.to_thread(marker.write, self._folder)
        self._go_on(marker)

    async def wait(self, session: str, seconds: float) -> str:
        """Why an erasure is not complete after so long; empty: it is."""
        task = self._tasks.get(session)
        if task is None:
            return ""
        done, _ = await asyncio.wait({task}, timeout=seconds)
        return "" if done else self._causes.get(session, "its leaf is not signed yet")

    async def stop(self) -> None:
        """Let go; what is not complete goes on at the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _wraps(self, session: str) -> tuple[tuple[str, str], ...]:
        found = await asyncio.to_thread(_wraps_in, self._keys / session)
        if not found and self._elsewhere is not None:
            found = list((await self._elsewhere.wraps(session)).values())
        return tuple(sorted((_recipient(data), sha256(data).hexdigest()) for data in found))

    def _go_on(self, marker: Marker) -> None:
        if marker.session not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._run(marker))
            self._tasks[marker.session] = task
            task.add_done_callback(lambda _: self._tasks.pop(marker.session, None))

    async def _run(self, marker: Marker) -> None:
        wait = self._first_wait
        while True:
            try:
                marker = await self._signed(marker)
                await self._delete(marker)
                await asyncio.to_thread(self._finish, marker.session)
                self.done += 1
                self._causes.pop(marker.session, None)
                log.info("erased", extra={"session": marker.session, "reason": marker.reason})
                return
            except RecordFailed:
                return  # The next start goes on.
            except Exception as error:
                # A store that holds on to its locks, or is away: nothing is lost by waiting.
                cause = str(error) or type(error).__name__
                if self._causes.get(marker.session) != cause:
                    log.warning("not erased yet", extra={"session": marker.session, "cause": cause})
                self._causes[marker.session] = cause
            await asyncio.sleep(wait)
            wait = min(wait * 2, _MOST_WAIT_SECONDS)

    async def _signed(self, marker: Marker) -> Marker:
        if not 0 <= marker.leaf < self._log.signed:
            wraps = [{"recipient": one, "sha256": digest} for one, digest in marker.wraps]
            leaf = self._log.append(
                "key.erase", session=marker.session, reason=marker.reason, wraps=wraps
            )
            await self._log.durable(leaf)
            marker = replace(marker, leaf=leaf)
            await asyncio.to_thread(marker.write, self._folder)
        return marker

    async def _delete(self, marker: Marker) -> None:
        session = marker.session
        if missing := self._unwitnessed(marker.leaf + 1):
            raise EraseRefused(
                f"leaf {marker.leaf}, which says so, is not cosigned yet by {missing}: start it, "
                "and the erasure goes on by itself"
            )
        if hold := await self.held(session):
            raise EraseRefused(f"the legal hold {hold} was put in force meanwhile")
        # What is in an openings file would be put back by a recovery.
        if await asyncio.to_thread(_in_openings, self._folder, session):
            raise EraseRefused("its key is in DATA/journal until the next file begins there")
        await asyncio.to_thread(_delete_folder, self._keys / session)
        if self._elsewhere is not None:
            await self._elsewhere.erase(session)

    def _finish(self, session: str) -> None:
        (self._folder / f"{session}{_SUFFIX}").unlink(missing_ok=True)
        durable.sync_folder(self._folder)


def _wraps_in(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.wrap"))]


def _recipient(wrap: bytes) -> str:
    return str(json.loads(wrap)["recipient"])


def _in_openings(folder: Path, session: str) -> bool:
    return any(one.session == session for one in openings.read_all(folder))


def _delete_folder(folder: Path) -> None:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    durable.sync_folder(folder.parent)
