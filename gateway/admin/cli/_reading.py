# SPDX-License-Identifier: GPL-3.0-or-later
"""The record as the documents that commands print, with what a running gateway adds to it."""

from __future__ import annotations

import heapq
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.admin.cli.client import gateway_for, status_of
from gateway.admin.cli.output import Failed, visible
from gateway.model import RecordedFrame
from gateway.protocols import discover
from gateway.record.places import Reach, Unreadable
from gateway.record.reader import Evidence, Listed
from gateway.record.sessions import tree as session_tree

Document = dict[str, Any]
_CONTRADICTIONS = (
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
    struct.error,
)
_LIVE = ("operations", "denied", "held", "masked", "rows", "bytes")


@dataclass(frozen=True, slots=True)
class Filters:
    """`since`, `until`: sessions opened at or after, at or before. `after`: behind this id."""

    since: str | None = None
    until: str | None = None
    target: str | None = None
    limit: int | None = None
    after: str | None = None

    def chosen(self, documents: Sequence[Mapping[str, Any]]) -> list[int]:
        """Which of these, oldest first. Raises Failed where `after` is none of them."""
        start = 0
        if self.after is not None:
            ids = [one["id"] for one in documents]
            if self.after not in ids:
                cure = "--after takes the last id of the page before"
                raise Failed(f"no session {visible(self.after)}", cure)
            start = ids.index(self.after) + 1
        fitting = [i for i in range(start, len(documents)) if self._fits(documents[i])]
        return fitting[: self.limit]

    def _fits(self, one: Mapping[str, Any]) -> bool:
        opened = one["opened"] or ""
        if self.since is not None and opened < self.since:
            return False
        if self.until is not None and not "" < opened <= self.until:
            return False
        return self.target is None or one["target"] == self.target


def instant(text: str | None) -> str | None:
    """RFC 3339, or a date, as the record writes times. Raises Failed."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Failed(f"{visible(text)!r} is no time", "write 2026-11-24T12:00:00Z") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Recorded:
    """A record that is open for reading. Methods raise Failed."""

    def __init__(self, evidence: Evidence, live: Mapping[str, Document]) -> None:
        self._evidence = evidence
        self._live = live

    @classmethod
    def opened(
        cls, data: Path | str, identity_path: Path | None = None, *, reach: Reach | None = None
    ) -> Recorded:
        """Open a data folder, an evidence folder or s3://bucket/prefix. Raises Failed.

        Who is live is asked first: whatever ends meanwhile is then in the record.
        """
        live = _live_sessions(Path(data)) if not str(data).startswith("s3://") else None
        try:
            evidence = Evidence(data, identity_path, reach=reach, running=live is not None)
        except Unreadable as error:
            raise _failed(error) from error
        return cls(evidence, live or {})

    @property
    def notes(self) -> list[str]:
        """What was left out because it is damaged."""
        return self._evidence.notes

    def sessions(self, filters: Filters = Filters()) -> list[Document]:
        """`sessions list`."""
        return [one.document for one in self.listed(filters)]

    def listed(self, filters: Filters = Filters()) -> list[Listed]:
        """Sessions with the actors on their paths."""

        def chosen(listed: list[Listed]) -> list[Listed]:
            return [listed[i] for i in filters.chosen([one.document for one in listed])]

        try:
            found = self._evidence.sessions(chosen, self._live.keys())
        except Unreadable as error:
            raise _failed(error) from error
        for one in found:
            self._add_live(one.document)
        return found

    def _add_live(self, document: Document) -> None:
        live = self._live.get(document["id"])
        if live is None or document["state"] not in ("open", "interrupted"):
            return
        document["state"] = "open"
        document.update({name: live.get(name) for name in _LIVE})

    def tree(self) -> list[Document]:
        """`sessions tree`, with the grants that opened no session."""
        paths = [one.hops for one in self.grants()]
        return session_tree([(one.document, one.hops) for one in self.listed()], paths)

    def grants(self) -> list[Listed]:
        """The records of grants."""
        try:
            return self._evidence.grants()
        except Unreadable as error:
            raise _failed(error) from error

    def find(self, prefix: str) -> str:
        """The id of the one session that begins so."""
        try:
            return self._evidence.find(prefix)
        except Unreadable as error:
            raise Failed(visible(str(error)), error.cure) from error

    def session(self, prefix: str) -> Document:
        """`sessions show`; the beginning of an id is enough where it is the only one."""
        session_id = self.find(prefix)
        try:
            document = self._evidence.session(session_id).document
        except Unreadable as error:
            raise _failed(error) from error
        self._add_live(document)
        return document

    def frames(self, session_id: str) -> Iterator[RecordedFrame]:
        """The frames of a session, by its whole id, read as they are asked for."""
        try:
            yield from self._evidence.frames(session_id)
        except Unreadable as error:
            raise _failed(error) from error

    def nodes(self) -> list[str]:
        """Ids of the nodes' own records."""
        try:
            return self._evidence.nodes()
        except Unreadable as error:
            raise _failed(error) from error

    def opens(self, session_id: str) -> bool:
        """Whether the content of this session can be opened."""
        try:
            return self._evidence.opens(session_id)
        except Unreadable as error:
            raise _failed(error) from error

    def replay(self, prefix: str) -> Document:
        """`audit replay` as one document, in memory."""
        session = self.session(prefix)
        return {"session": session, "operations": list(self.operations(session))}

    def operations(
        self, session: Mapping[str, Any], rows_per_piece: int | None = None
    ) -> Iterator[Document]:
        """The operations of a session, read as they are asked for."""
        protocol = discover().get(session["protocol"] or "")
        if protocol is None:
            if session["protocol"] is not None:
                name = visible(session["protocol"])
                raise Failed(f"session {session['id']} speaks {name}: not in this version")
            return
        frames = self._evidence.frames(session["id"])
        try:
            yield from protocol.replay(frames, rows_per_piece)
        except Unreadable as error:
            raise _failed(error) from error
        except _CONTRADICTIONS as error:
            # Every frame is whole, and yet they contradict each other: nobody's gateway wrote that.
            raise Failed(
                f"session {session['id']}: its frames make no sense together ({error})",
                "trailgate verify says what was changed",
            ) from error


def timeline(
    recorded: Recorded, sessions: Sequence[Mapping[str, Any]], rows_per_piece: int | None
) -> Iterator[tuple[Mapping[str, Any], Document]]:
    """The operations of several sessions, oldest first, in one order of time.

    `sessions` are in the order of their opening; one is read from when its time has come.
    """
    waiting = deque(sessions)
    heap: list[tuple[str, int, Document, Mapping[str, Any], Iterator[Document]]] = []
    count = 0
    while waiting or heap:
        if waiting and (not heap or (waiting[0]["opened"] or "") <= heap[0][0]):
            session = waiting.popleft()
            source = recorded.operations(session, rows_per_piece)
            following = next(source, None)
        else:
            _, _, operation, session, source = heapq.heappop(heap)
            yield session, operation
            while (following := next(source, None)) and following["seq"] == operation["seq"]:
                yield session, following
        if following is not None:
            count += 1
            heapq.heappush(heap, (following["started"] or "", count, following, session, source))


def _live_sessions(data: Path) -> dict[str, Document] | None:
    """The open sessions of the gateway that runs on this data folder; None if none does."""
    if not (data / "admin.sock").is_socket():
        return None
    # Without a token the socket's caller is an admin, who sees every session.
    gateway = gateway_for(data).with_token(None)
    try:
        answer = gateway.call("GET", "/api/v1/sessions?own=true")
    except Failed as error:
        # A gateway that was killed leaves its socket behind, and nobody answers there.
        return None if status_of(error) is None else {}
    finally:
        gateway.close()
    return {one["id"]: one for one in answer}


def _failed(error: Unreadable) -> Failed:
    return Failed(visible(str(error)), error.cure)
