# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions of one log: their frames through all segments, and how each one ends."""

from __future__ import annotations

import base64
from collections.abc import Callable

from gateway.verify import tree
from gateway.verify.findings import Findings
from gateway.verify.grants import Grants, LogGrants
from gateway.verify.history import Closed, Contradiction, History, Shipped, seconds_between
from gateway.verify.kept import Kept
from gateway.verify.opening import Opener
from gateway.verify.progress import ProgressCheck
from gateway.verify.segment import OPEN, BadSegment, SegmentReader, SessionTree, session_text
from gateway.verify.source import Missing, Source

MOST_PENDING = 900.0
"""Seconds that a closed session's frames may wait to be shipped."""


class SessionsPass:
    """Reads a log's segments in their order; afterwards `settle` says what became of sessions."""

    def __init__(
        self,
        source: Source,
        findings: Findings,
        history: History,
        *,
        selected: set[str] | None,
        unshipped: bool,
        progress: Callable[[str, int], None],
        opener: Opener | None,
        grants: Grants,
        kept: Kept,
    ) -> None:
        self._source = source
        self._findings = findings
        self._history = history
        self._selected = selected
        self._unshipped = unshipped
        self._progress = progress
        self._opener = opener
        self._kept = kept
        self._expired = -1
        """Leaf of the newest segment that has outlived its retention and is gone."""
        self._log = f"log/{history.node}/{history.number}"
        self._trees: dict[bytes, SessionTree] = {}
        self._gapped = {gap["session"] for gap in history.gaps if "session" in gap}
        self._left = set(history.opens) if selected is None else set(selected)
        self._progress_check = ProgressCheck(history, self._trees.get, self._unfollowed)
        self._grants = LogGrants(grants, findings, history, selected, self._unfollowed)
        self._numbers: set[int] = set()
        self._number = 0
        self._damaged = False
        self.last_wall_ns = 0

    def run(self, listed: dict[str, int]) -> None:
        """Read every segment that may hold a frame of the sessions asked for."""
        for shipped in sorted(self._history.segments, key=lambda each: each.number):
            self._numbers.add(shipped.number)
            if self._may_skip(shipped):
                self._present(shipped, listed)
            else:
                self._segment(shipped)

    def _may_skip(self, shipped: Shipped) -> bool:
        if self._selected is None:
            return False
        # A segment's leaf comes after all its frames, a session's open leaf before all of its.
        return all(shipped.index < self._history.opens[one].index for one in self._left)

    def _present(self, shipped: Shipped, listed: dict[str, int]) -> None:
        if listed.get(shipped.object, -1) != shipped.bytes:
            try:
                with self._source.open(shipped.object):
                    wrong = shipped.object in listed
            except Missing:
                if not self._is_expired(shipped):
                    self._findings.defect(shipped.object, "missing", "is missing")
                return
            if wrong:
                self._findings.defect(shipped.object, "truncated", "is not of its leaf's size")

    def _segment(self, shipped: Shipped) -> None:
        self._number = shipped.number
        try:
            with self._source.open(shipped.object) as chunks:
                reader = SegmentReader(
                    chunks,
                    self._find,
                    lambda size: self._progress(shipped.object, size),
                    self._opener.check if self._opener else None,
                    self._hole,
                    self._progress_check.frame,
                    self._meta,
                )
                self._read(reader, shipped)
        except Missing:
            if self._is_expired(shipped):
                return
            self._damaged = True
            detail = f"is missing: {shipped.frames} frames are not there"
            self._findings.defect(shipped.object, "missing", detail)
        except BadSegment as error:
            self._damaged = True
            self._findings.defect(shipped.object, error.kind, str(error))

    def _meta(self, session: bytes, kind: int, meta: bytes) -> None:
        """The metadata of an open, close or grant frame."""
        if kind == OPEN:
            self._kept.opened(session, meta)
        self._grants.frame(session, kind, meta)

    def _is_expired(self, shipped: Shipped) -> bool:
        if not self._kept.segment_expired(self._history, shipped):
            return False
        self._expired = max(self._expired, shipped.index)
        return True

    def _outlived(self, text: str) -> bool:
        """Whether frames of a session may have gone with a segment whose time was over."""
        return self._history.opens[text].index < self._expired

    def _read(self, reader: SegmentReader, shipped: Shipped) -> None:
        history = self._history
        digest, size = reader.read(history.node, history.number, shipped.number)
        if digest != shipped.sha256:
            raise BadSegment("digest", f"has the SHA-256 {digest}, not that of its name and leaf")
        if (size, reader.frames) != (shipped.bytes, shipped.frames):
            raise BadSegment("segment", "is not of the size and number of frames of its leaf")
        self._findings.frames += reader.frames
        self._findings.bytes += size
        self.last_wall_ns = max(self.last_wall_ns, reader.last_wall_ns)
        for session, part in reader.parts.items():
            if part.tree is not None:
                self._after(session, part.tree)

    def _find(self, session: bytes) -> SessionTree | None:
        text = session_text(session)
        if text not in self._history.opens:
            raise BadSegment("session", f"has frames of {text}, a session the log never opened")
        if self._selected is not None and text not in self._selected:
            return None
        if session not in self._trees:
            self._trees[session] = SessionTree(gapped=text in self._gapped)
        return self._trees[session]

    def _hole(self, session: bytes, expected: int, found: int) -> None:
        """Frames are missing: fine only where a journal file in between may still come."""
        text = session_text(session)
        if self._damaged or self._may_be_pending() or self._outlived(text):
            return
        raise BadSegment(
            "missing_frames", f"has frame {found} of {text}, but frames {expected} to {found - 1} "
            "are in no segment before it"
        )  # fmt: skip

    def _unfollowed(self, text: str) -> bool:
        """Whether frames of a session may be missing for a reason that is told elsewhere."""
        if text in self._gapped or self._damaged or self._may_be_pending():
            return True
        if text in self._history.opens and self._outlived(text):
            return True
        return self._selected is not None and text not in self._selected

    def _may_be_pending(self) -> bool:
        return self._unshipped and not set(range(self._number)) <= self._numbers

    def _after(self, session: bytes, known: SessionTree) -> None:
        """Check a session's root as soon as its last frame was read, and let its tree go."""
        text = session_text(session)
        closed = self._history.closes.get(text)
        if closed is None or known.broken or known.count < closed.frames:
            return
        if text in self._left:
            self._left.discard(text)
            self._count(text)
            self._compare(text, known, closed)
        elif known.count > closed.frames:
            raise BadSegment("order", f"has more frames of {text} than its close leaf counts")
        known.peaks = []
        known.ended = True

    def _count(self, text: str) -> None:
        if self._history.opens[text].kind == "grant":
            self._findings.grants += 1
        else:
            self._findings.sessions += 1

    def _compare(self, text: str, known: SessionTree, closed: Closed) -> None:
        if known.count != closed.frames or tree.root(known.peaks).hex() != closed.root:
            detail = f"session {text}: its {known.count} frames do not have the root and count "
            self._findings.defect(self._log, "root", detail + "that its close leaf signs")
        elif closed.reason != "interrupted" and not known.ended:
            detail = f"session {text}: was closed ({closed.reason}) without a close frame"
            self._findings.defect(self._log, "session", detail)

    def settle(self, superseded: bool) -> None:
        """What became of the sessions whose root could not be checked."""
        self._untold()
        for text in sorted(self._left, key=lambda one: self._history.opens[one].ordinal):
            closed = self._history.closes.get(text)
            known = self._trees.get(_session_bytes(text), SessionTree())
            if closed is not None:
                self._unfinished(text, known, closed, superseded)
            elif self._history.stopped:
                detail = f"session {text}: was opened and never closed, yet the log was stopped"
                self._findings.defect(self._log, "session", detail)
            elif self._history.opens[text].kind != "grant":
                (self._findings.lost if superseded else self._findings.open).append(text)

    def _untold(self) -> None:
        """Progress that was signed and whose frame is nowhere, though its session was closed."""
        if self._damaged or self._selected is not None:
            return
        for text in sorted({session for session, _ in self._history.progress}):
            if text in self._left or text in self._gapped or self._outlived(text):
                continue
            for index in self._progress_check.untold(text):
                detail = f"leaf {index} signs progress in session {text}: no frame tells of it"
                self._findings.defect(self._log, "progress", detail)

    def _unfinished(self, text: str, known: SessionTree, closed: Closed, superseded: bool) -> None:
        if closed.frames == 0 and not known.count:
            self._count(text)
            self._compare(text, known, closed)
        elif self._outlived(text):
            self._findings.expired.append(text)
        elif _overdue(closed.at, self._history.last_at):
            detail = (
                f"session {text}: {known.count} of its {closed.frames} frames are in segments, "
                f"and it was closed at {closed.at}"
            )
            self._findings.defect(self._log, "unshipped", detail)
        elif superseded and self._history.stops < closed.index:
            self._findings.lost.append(text)
        elif self._unshipped or self._history.stops < closed.index:
            waiting = {"session": text, "frames": closed.frames - known.count}
            self._findings.pending.append(waiting)
        elif not self._damaged:
            detail = f"session {text}: {known.count} of its {closed.frames} frames are in segments"
            self._findings.defect(self._log, "missing_frames", detail)


def _overdue(closed: str, now: str) -> bool:
    try:
        return seconds_between(closed, now) > MOST_PENDING
    except Contradiction:
        return True


def _session_bytes(text: str) -> bytes:
    return base64.b32decode(text.upper() + "======")
