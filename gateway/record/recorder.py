# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's record: what `app` starts, the relay writes into, and auditors read later."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from gateway.model import Grant, Level, RecordFailed
from gateway.record import policies, seal
from gateway.record.authority import NodeAuthority
from gateway.record.backlog import Backlog
from gateway.record.changes import ConfigChanges
from gateway.record.durable import explain
from gateway.record.frames import Header
from gateway.record.grants import GrantRecords
from gateway.record.journal import Journal
from gateway.record.keeping import Keeping
from gateway.record.log import File, NodeLog, now_text
from gateway.record.noted import Noted
from gateway.record.openings import Opening, Openings
from gateway.record.options import RecorderOptions
from gateway.record.progress import Progress
from gateway.record.refusals import Refusals
from gateway.record.saving import StateSaver
from gateway.record.session_record import RecordedSession
from gateway.record.shipping import Shipper
from gateway.record.starting import Started, prepare
from gateway.record.state import OpenSession, State
from gateway.record.tree import EMPTY_ROOT

__all__ = ["NodeRecorder", "RecorderOptions"]

log = logging.getLogger("trailgate.record")


class NodeRecorder:
    """Implements ports.Recorder. On the loop only; `start` makes it."""

    def __init__(
        self, options: RecorderOptions, started: Started, sync: Callable[[int], None]
    ) -> None:
        self._options = options
        self._started = started
        self._keys = options.evidence.parent / "keys"
        self._folder = options.data / "journal"
        self._salt = seal.salt_source()
        self._compression = seal.COMPRESSIONS[options.compression]
        self._sessions: dict[bytes, RecordedSession] = {}
        self._opening: dict[str, RecordedSession] = {}
        self._then: list[Callable[[str], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._node: RecordedSession | None = None
        self._opened = 0
        self._payload_bytes = 0
        self._stopping = False
        recovery = started.recovery
        self._log = NodeLog(
            started.tiles, options.node, options.checkpoint_seconds, self._fail_with,
            options.heartbeat_seconds,
        )  # fmt: skip
        self._policies = policies.Policies(self._folder, options.evidence, self._log)
        self._backlog = Backlog(options.marks)
        self._shipper = Shipper(self._log, options.publish, self._backlog)
        self._authority = NodeAuthority(options.data / "node", self._log, started.tiles)
        self._log.on_signed = self._shipper.sweep
        self._openings = Openings(
            self._folder, recovery.next_number, recovery.ordinal, sync, self._was_opened,
            self._fail_with,
        )  # fmt: skip
        self._saver = StateSaver(
            self._folder, self._keys, self._log, self._openings, self._state, self._needed_from,
            self._journal_synced,
        )  # fmt: skip
        self.keeping = Keeping(options, self._keys, started.tiles, self._log, self._is_open)
        self._sync = sync
        self.grants = GrantRecords(
            f"{options.node}/{started.number}",
            lambda opening: self._open(opening, "grant"),
            self._journal_synced,
        )
        self._journal: Journal
        self._refusals: Refusals
        self.changes: ConfigChanges
        self.noted: Noted

    # --- the start -------------------------------------------------------------------------------

    @classmethod
    async def start(
        cls, options: RecorderOptions, sync: Callable[[int], None] = os.fdatasync
    ) -> NodeRecorder:
        """Recover, say so in the log, and open the node's session.

        Raises RecordFailed, which names the place and the cure.
        """
        if not options.recipients:
            raise RecordFailed(
                "the record has no recipient, so nobody could read it: make a key with "
                "`trailgate init` and name its recipient.pub in the settings"
            )
        try:
            started = await asyncio.to_thread(prepare, options)
        except OSError as error:
            raise RecordFailed(explain(options.data, error)) from error
        recorder = cls(options, started, sync)
        try:
            await recorder._begin()
        except OSError as error:
            started.release()
            raise RecordFailed(explain(options.data, error)) from error
        except BaseException:
            started.release()
            raise
        return recorder

    async def _begin(self) -> None:
        started, recovery, options = self._started, self._started.recovery, self._options
        for kind, members in started.first_leaves(options.node, options.version):
            self._log.append(kind, **members)
        for opening in recovery.openings:
            self._opening_leaves(opening)
        for kind, members in recovery.leaves():
            self._log.append(kind, **members)
        self._policies.name_kept()
        await self._authority.begin()
        await self._log.sign()
        await asyncio.to_thread(recovery.finish)
        await asyncio.to_thread(self._first_state)
        for closed in recovery.closed:
            if closed.header.number in recovery.segments:
                self._shipper.add_named(closed.path, closed.header.number)
            else:
                self._shipper.add(closed.path, closed.header, closed.frames)
        self._journal = Journal(
            self._folder, self._header, recovery.next_number, file_bytes=options.file_bytes,
            rotate_seconds=options.rotate_seconds, sync_seconds=options.sync_seconds,
            sync=self._sync, on_rotate=self._saver.rotated, on_closed=self._shipper.add,
            on_failed=self._failed_with, may_grow=self._backlog.refuse,
        )  # fmt: skip
        self._needed_from(recovery.next_number)
        self._log.journal_synced = self._journal_synced
        self._log.start()
        self._authority.start()
        self._shipper.start()
        self._node = await self._open({"version": options.version}, "node")
        self._refusals = Refusals(self._node)
        self.changes = ConfigChanges(self._node, self._journal, self._log.append)
        self.noted = Noted(self._node)
        progress = Progress(self._node, self._sessions, self._log, options.progress_seconds)
        self._log.before_sign = progress.before_sign

    async def _journal_synced(self) -> None:
        synced: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._journal.when_reached(self._journal.position, Level.DISK, synced.set_result)
        if not await synced:
            raise RecordFailed(self._journal.failed)

    def _first_state(self) -> None:
        recovery = self._started.recovery
        here = {closed.header.number for closed in recovery.closed}
        state = State(
            recovery.next_number, self._log.signed, recovery.ordinal,
            tuple(sorted(here & recovery.segments)), (), self._started.boot,
        )  # fmt: skip
        self._saver.write(state, recovery.next_number)
        policies.forget(self._folder)

    def _header(self, number: int) -> Header:
        started = self._started
        return Header(self._options.node, started.number, number, os.urandom(16), now_text())

    # --- sessions --------------------------------------------------------------------------------

    async def open(self, opening: Mapping[str, Any], grant: Grant | None = None) -> RecordedSession:
        """As ports.Recorder. Raises RecordFailed.

        Whoever is cancelled meanwhile leaves a session that is closed as soon as it is open.
        """
        work = self._open_citing(opening, grant) if grant else self._open(opening, "session")
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_close_unwanted)
            raise

    async def _open_citing(self, opening: Mapping[str, Any], grant: Grant) -> RecordedSession:
        async with self.grants.citing(grant) as record:
            return await self._open({**opening, "grant_record": record}, "session")

    async def _open(self, opening: Mapping[str, Any], kind: str) -> RecordedSession:
        self._admit()
        # A grant's record holds no payload, so there is nothing to seal.
        raw, key = os.urandom(16), b"" if kind == "grant" else seal.new_key()
        session = RecordedSession(
            raw, key, self._journal, self._salt, self._compression, self._was_closed, self._has_gap
        )
        wraps = tuple(
            (recipient.fingerprint, seal.wrap(key, session.id, recipient))
            for recipient in (self._options.recipients if key else ())
        )
        meta = dict(opening) | {"session": session.id, "gateway": self._options.node}
        need = len(_dump(meta)) + 256
        self._journal.room(need + 4096)
        session.reserve()
        self._journal.reserve(need)
        self._opening[session.id] = session
        try:
            await self._openings.add(Opening(session.id, kind, wraps))
        except RecordFailed:
            session.release()
            del self._opening[session.id]
            raise
        finally:
            self._journal.reserve(-need)
        self._write_open(session, meta)
        return session

    def _is_open(self, session: str) -> bool:
        return session in self._opening or any(one.id == session for one in self._sessions.values())

    def _admit(self) -> None:
        """Refuse new sessions while there is no room to go on. Raises RecordFailed."""
        self._journal.check()
        full = self._journal.full or self._log.stuck or self._backlog.refuse()
        if cause := full or self._options.refuse():
            raise RecordFailed(cause)

    def _write_open(self, session: RecordedSession, meta: Mapping[str, Any]) -> None:
        try:
            fields = {**meta, "ordinal": session.ordinal}
            session.append("open", "own", b"", _dump(fields))
        except BaseException:
            session.release()
            del self._sessions[session.raw]
            if not self._journal.failed:
                self._log.append(
                    "close", session=session.id, frames=0, root=EMPTY_ROOT.hex(),
                    reason="interrupted",
                )  # fmt: skip
            raise

    def _was_opened(self, opening: Opening) -> None:
        session = self._opening.pop(opening.session)
        session.ordinal = opening.ordinal
        self._sessions[session.raw] = session
        self._opened += 1
        self._opening_leaves(opening)

    def _opening_leaves(self, opening: Opening) -> None:
        wraps, files = [], list[File]()
        for recipient, wrap in opening.wraps:
            digest = sha256(wrap).hexdigest()
            wraps.append({"recipient": recipient, "sha256": digest})
            files.append((self._keys / opening.session / f"{digest}.wrap", wrap, False))
        if wraps:
            self._log.append("key.wrap", files, session=opening.session, wraps=wraps)
        self._log.append(
            "open", session=opening.session, ordinal=opening.ordinal, kind=opening.kind
        )

    def _has_gap(self, session: RecordedSession, detail: str) -> None:
        self._log.append("gap", session=session.id, detail=detail)

    def _was_closed(self, session: RecordedSession, reason: str) -> None:
        del self._sessions[session.raw]
        self._payload_bytes += session.payload_bytes
        self._log.append(
            "close", session=session.id, frames=session.next, root=session.root(), reason=reason
        )

    # --- the rest of ports.Recorder --------------------------------------------------------------

    def refused(self, event: Mapping[str, Any]) -> None:
        self._refusals.record(event)

    def reached(self, position: int, level: Level) -> bool:
        return self._journal.reached(position, level)

    def when_reached(self, position: int, level: Level, then: Callable[[bool], None]) -> None:
        self._journal.when_reached(position, level, then)

    async def policy_in_force(self, name: str, text: bytes) -> None:
        """Keep a policy document beside the evidence, named by a leaf; once per text and start."""
        self._journal.check()
        await self._policies.in_force(name, text)

    # --- the state that recovery starts from -----------------------------------------------------

    def _state(self, number: int) -> State:
        sessions = tuple(
            OpenSession(one.id, one.next, tuple(one.peaks)) for one in self._sessions.values()
        )
        return State(
            number, self._log.size, self._openings.ordinal, self._shipper.named, sessions,
            self._started.boot,
        )  # fmt: skip

    def _needed_from(self, file: int) -> None:
        self._shipper.needed_from = file
        self._shipper.sweep()

    # --- failing and ending ----------------------------------------------------------------------

    @property
    def failed(self) -> bool:
        """Whether nothing can be recorded any more."""
        return bool(self._journal.failed)

    def when_failed(self, then: Callable[[str], None]) -> None:
        """Call `then(cause)` once, on the loop, when nothing can be recorded any more."""
        if self._journal.failed:
            asyncio.get_running_loop().call_soon(then, self._journal.failed)
        else:
            self._then.append(then)

    def _fail_with(self, cause: str) -> None:
        self._journal.fail(cause)

    def _failed_with(self, cause: str) -> None:
        log.critical("the record failed", extra={"cause": cause})
        self._log.failed(cause)
        then, self._then = self._then, []
        for call in then:
            asyncio.get_running_loop().call_soon(call, cause)

    def figures(self) -> Mapping[str, float]:
        """For /metrics."""
        journal = self._journal
        live = self._sessions.values()
        return {
            "frames": journal.frames + journal.file.frames,
            "bytes": journal.bytes + journal.file.at,
            "payload_bytes": self._payload_bytes + sum(one.payload_bytes for one in live),
            "open_sessions": len(self._sessions) - self.grants.open_count,
            "open_grants": self.grants.open_count,
            **self._backlog.figures(),
            **self.keeping.figures(),
            "published": self._shipper.published,
            "publish_failures": self._shipper.failures,
            "syncs": journal.syncs,
            "sync_seconds": journal.sync_seconds,
            "refused_not_recorded": self._refusals.dropped,
            "log_leaves": self._log.size,
            "log_signed": self._log.signed,
            "full": float(bool(journal.full or self._log.stuck)),
        }

    async def stop(self, publish_seconds: float = 10.0) -> None:
        """Close what is open, publish, and sign the end. What could not be published stays."""
        if self._stopping:
            return
        self._stopping = True
        try:
            await self._stop(publish_seconds)
        except OSError as error:
            # The next start makes the leaves that are missing from the journal.
            log.error("log not completed", extra={"cause": explain(self._folder, error)})
        finally:
            self._started.release()

    async def _stop(self, publish_seconds: float) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.keeping.erasures.stop()
        if not self.failed:
            self._refusals.tell()
            self.grants.close_all()
            self.noted.tell()
            for session in list(self._sessions.values()):
                session.close_now("drain", {"detail": "the gateway ended"})
        await self._authority.stop()
        await self._openings.stop()
        await self._journal.stop()
        await self._shipper.stop(publish_seconds)
        if self.failed:
            await self._log.stop()
            return
        self._log.append("stop", sessions=self._opened)
        await self._saver.finish()
        await self._log.stop()
        await self._saver.write_last(self._journal.next_number)
        await asyncio.to_thread(policies.forget, self._folder)


def _close_unwanted(task: asyncio.Task[RecordedSession]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close_now("client", {"detail": "left while the session was opened"})


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), default=str).encode()
