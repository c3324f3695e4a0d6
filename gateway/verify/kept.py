# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be gone: keys that were erased, and what has outlived its retention; never under a hold.

What was signed before counts: the retention in force when a session closed, the holds in force when
its key was erased. With a witness to trust, an erasure that it has not seen is none.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gateway.verify.findings import Findings
from gateway.verify.history import Erased, History, Shipped
from gateway.verify.log import LogReading
from gateway.verify.trust import Trust


def _over(since: str, days: int, now: str) -> bool:
    """Whether `days` (0: no end) have passed; all times as leaves have them."""
    try:
        ended = datetime.fromisoformat(since) + timedelta(days=days)
        return bool(days) and ended <= datetime.fromisoformat(now)
    except (ValueError, OverflowError):
        return False


class Kept:
    """One verification's view over all logs; leaves of one node's logs speak of each other's
    sessions, since a node that lost its disk goes on in a new log."""

    def __init__(
        self, findings: Findings, logs: list[LogReading], trust: Trust | None, as_of: str | None
    ) -> None:
        self._findings = findings
        self._erased: dict[tuple[str, str], tuple[LogReading, Erased]] = {}
        self._watched = trust is not None and trust.quorum is not None
        self._witnesses = ", ".join(sorted(key.name for key in trust.witnesses.values())
                                    if trust else ())  # fmt: skip
        self._told: set[str] = set()
        self._now: dict[str, str] = {}
        self._suspects: dict[bytes, tuple[LogReading, str, Erased, str, str]] = {}
        for log in logs:
            node = log.history.node
            self._now[node] = max(self._now.get(node, ""), log.history.last_at, as_of or "")
            for session, erased in log.history.erases.items():
                self._erased[node, session] = log, erased
        for log in logs:
            self._suspect(log)

    # --- keys ------------------------------------------------------------------------------------

    def erased(self, history: History, session: str) -> bool:
        """Whether the log says that this session's key was erased, or is to be."""
        return (history.node, session) in self._erased

    def gone(self, history: History, session: str) -> bool:
        """Whether a wrap that is missing may be; noted in the verdict, or as a defect if it was
        erased behind the witness's back."""
        found = self._erased.get((history.node, session))
        if found is not None:
            log, erased = found
            if self._watched and not _witnessed(log, erased.index):
                self._unseen(log, session, erased)
            self._note(session, expired=erased.reason == "expired")
            return True
        closed = history.closes.get(session)
        if closed is None:
            return False
        period = history.retention_at(closed.index)
        if not _over(closed.at, period.keys, self._now[history.node]):
            return False
        self._note(session, expired=True)
        return True

    def _unseen(self, log: LogReading, session: str, erased: Erased) -> None:
        """Once, however many wraps the session had."""
        if session not in self._told:
            self._told.add(session)
            detail = (
                f"the key of session {session} was erased (leaf {erased.index}), which the "
                f"witness {self._witnesses} did not see: have it cosign this log (evidence.witness "
                "of the gateway, or trailgate witness --once), and verify again"
            )
            self._findings.defect(log.path, "unreadable", detail)

    def may_be_deleted(self, logs: list[LogReading], name: str) -> bool:
        """Whether a wrap that was listed as deleted is one whose deletion was signed."""
        parts = name.split("/")
        if len(parts) != 3 or parts[0] != "keys":
            return False
        return any(
            parts[1] in log.history.wraps and self.gone(log.history, parts[1]) for log in logs
        )

    def _note(self, session: str, expired: bool) -> None:
        kind = self._findings.expired if expired else self._findings.erased
        if session not in kind:
            kind.append(session)

    # --- segments --------------------------------------------------------------------------------

    def segment_expired(self, history: History, shipped: Shipped) -> bool:
        """Whether a segment that is missing has outlived the sessions' retention."""
        period = history.retention_at(shipped.index)
        if not _over(shipped.at, period.sessions, self._now[history.node]):
            return False
        self._findings.expired.append(shipped.object)
        return True

    # --- legal holds -----------------------------------------------------------------------------

    def _suspect(self, log: LogReading) -> None:
        history = log.history
        for session, opened in history.opens.items():
            found = self._erased.get((history.node, session))
            if found is None or not found[1].holds:
                continue
            closed = history.closes.get(session)
            raw = _raw(session)
            ended = closed.at if closed else "~"
            self._suspects[raw] = log, session, found[1], opened.at, ended
            self._judge(raw, None)

    def opened(self, session: bytes, meta: bytes) -> None:
        """An open frame: it says which target the session was on."""
        if session not in self._suspects:
            return
        try:
            fields: Any = json.loads(meta)
            target = fields.get("target")
        except (ValueError, AttributeError, RecursionError):
            return
        self._judge(session, target)

    def _judge(self, raw: bytes, target: str | None) -> None:
        log, session, erased, opened, closed = self._suspects[raw]
        for hold in erased.holds:
            if _covers(hold, target, opened, closed):
                detail = (
                    f"leaf {erased.index}: the key of session {session} was erased, which the "
                    f"legal hold {hold['name']} forbade"
                )
                self._findings.defect(log.path, "held", detail)
                del self._suspects[raw]
                return


def _covers(hold: Mapping[str, Any], target: str | None, opened: str, closed: str) -> bool:
    """`target`: None where only holds of all targets are asked for."""
    if hold["targets"] and target not in hold["targets"]:
        return False
    in_time = not hold["until"] or opened <= hold["until"]
    return bool(in_time and (not hold["since"] or closed >= hold["since"]))


def _witnessed(log: LogReading, index: int) -> bool:
    sizes = [one.checkpoint.size for one in log.cosigned if one.witnessed_at is not None]
    return max(sizes, default=0) > index


def _raw(session: str) -> bytes:
    return base64.b32decode(session.upper() + "======")
