# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether each node is there from its first day to the last: logs, silence, retirement, succession.

A node that the trust file lists must have evidence for as long as its certificates hold (for good,
where the trust file has none), or a retirement.
"""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from gateway.verify.certificate import Certificate
from gateway.verify.cosigned import open_cosigned, origin_of
from gateway.verify.findings import Findings
from gateway.verify.history import MOST_SILENCE, Contradiction, seconds_between
from gateway.verify.log import LogReading
from gateway.verify.note import NoteError
from gateway.verify.trust import Trust


def cite(later: LogReading) -> tuple[str, bytes]:
    """(path, note): which checkpoint of which log this one says that it goes on from."""
    succession = later.history.succession
    if succession is None:
        return "", b""
    path = f"log/{later.history.node}/{succession['log']}"
    return path, succession["note"].encode()


class Completeness:
    """Judges the nodes; `as_of`: as leaves write times."""

    def __init__(self, findings: Findings, trust: Trust | None, as_of: str | None) -> None:
        self._findings = findings
        self._trust = trust or Trust()
        self._as_of = as_of

    def check(self, logs: list[LogReading]) -> None:
        """Note what is missing."""
        nodes: dict[str, list[LogReading]] = defaultdict(list)
        for log in logs:
            nodes[log.history.node].append(log)
        for node in sorted(nodes):
            self._follow(nodes[node])
        listed = self._trust.nodes | {one.node for one in self._trust.certificates}
        for node in sorted(listed):
            if not nodes.get(node):
                detail = "is missing: the trust file names this node"
                self._findings.defect(f"log/{node}", "missing", detail)
                continue
            self._begins(node, nodes[node][0])
            if nodes[node][-1].sound:
                self._reaches(node, nodes[node][-1])

    # --- from one log to the next -----------------------------------------------------------------

    def _follow(self, logs: list[LogReading]) -> None:
        for before, log in zip([None, *logs], logs, strict=False):
            if log.sound and log.history.number and log.size:
                self._succeeds(before, log)

    def _succeeds(self, before: LogReading | None, log: LogReading) -> None:
        findings, succession = self._findings, log.history.succession
        if succession is None:
            detail = "goes on for another log, and its first leaf does not say for which"
            findings.defect(log.path, "succession", detail)
            return
        number, path = succession["log"], f"log/{log.history.node}/{succession['log']}"
        if number != log.history.number - 1:
            detail = f"says that it goes on for {path}, which is not the one before it"
            findings.defect(log.path, "succession", detail)
        elif before is None or before.history.number != number:
            findings.unresolved.append(f"{path}: is not here, and {log.path} goes on for it")
        elif before.history.retired:
            detail = f"goes on for {path}, which was retired"
            findings.defect(log.path, "succession", detail)
        else:
            self._cited(before, log, succession)
            self._gap(before, log)

    def _cited(self, before: LogReading, log: LogReading, succession: dict[str, Any]) -> None:
        """What a witness is said to have shown carries the cosignature of a trusted one."""
        note = succession["note"].encode()
        if bool(note) != (succession["source"] != "none"):
            detail = "cites a checkpoint and no source, or a source and no checkpoint"
            self._findings.defect(log.path, "succession", detail)
        elif note and succession["source"] == "witness" and before.chain is not None:
            try:
                open_cosigned(note, before.chain.of_note(note), self._trust)
            except NoteError as error:
                detail = f"cites a checkpoint of {before.path} that {error}"
                self._findings.defect(log.path, "succession", detail)

    def _gap(self, before: LogReading, log: LogReading) -> None:
        since, until = before.history.last_at, log.history.first_at
        if not before.history.stopped and since and _between(since, until) > MOST_SILENCE:
            seconds = f"no sign of life for {_between(since, until):.0f} seconds"
            detail = f"{seconds}, until {log.path} began"
            self._findings.gaps.append({"since": since, "until": until, "detail": detail})

    # --- nodes of the trust file ------------------------------------------------------------------

    def _begins(self, node: str, first: LogReading) -> None:
        """Evidence from the first certificate on, or from the node's first log."""
        since = min((one.not_before for one in self._of(node)), default="")
        began = first.history.first_at
        if first.history.number == 0 and not since:
            return
        if since and began and _between(since, began) <= MOST_SILENCE:
            return
        wanted = f"its certificates begin at {since}" if since else "there were logs before it"
        detail = f"is the first log of {node} here, and begins at {began}: {wanted}"
        self._findings.defect(first.path, "missing", detail)

    def _reaches(self, node: str, last: LogReading) -> None:
        """Evidence to the end of the last certificate, to the time asked for, or a retirement."""
        history = last.history
        if history.retired or self._is_all_that_was_seen(last):
            return
        until = min([self._as_of or _now(), *self._ends(node)])
        if not history.last_at or _between(history.last_at, until) <= MOST_SILENCE:
            return
        if not history.stopped and (self._as_of or self._trust.quorum is not None):
            return  # Witnessing has said so
        ended = "was stopped" if history.stopped else "is silent since"
        detail = f"{ended} at {history.last_at}, and {node} was not retired"
        if self._as_of:
            self._findings.defect(last.path, "silent", f"{detail}: nothing tells of it to {until}")
        else:
            cure = "if this is a copy, say from when: --as-of TIME"
            self._findings.unresolved.append(f"{last.path}: {detail}; {cure}")

    def _is_all_that_was_seen(self, last: LogReading) -> bool:
        """Whether the log was stopped and its end is the last that the witness itself saw."""
        origin = f"trailgate/{last.history.node}/{last.history.number}"
        seen = [note for note in self._trust.seen if origin_of(note) == origin]
        return last.history.stopped and any(
            note.split(b"\n")[1:2] == [b"%d" % last.size] for note in seen
        )

    def _ends(self, node: str) -> list[str]:
        certificates = self._of(node)
        if not certificates or node in self._trust.nodes:
            return []
        return [max(one.not_after for one in certificates)]

    def _of(self, node: str) -> list[Certificate]:
        return [one for one in self._trust.certificates if one.node == node]


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _between(before: str, now: str) -> float:
    try:
        return seconds_between(before, now)
    except Contradiction:
        return 0.0
