# SPDX-License-Identifier: GPL-3.0-or-later
"""Wraps, policies and README.json against the log's leaves, and what lies where nothing belongs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterable

from gateway.verify.findings import Findings
from gateway.verify.history import History
from gateway.verify.identities import SUITES
from gateway.verify.kept import Kept
from gateway.verify.opening import Opener
from gateway.verify.source import Missing, Source

MOST_WRAP = 65536
MOST_POLICY = 16 << 20
_NAMED = re.compile(
    r"(?:seg/[^/]+/\d{8}/|policy/|keys/[a-z2-7]{26}/)(?P<sha256>[0-9a-f]{64})(?:\.wrap)?"
)


class Keys:
    """The wrapped session keys of one log, each checked against its leaf."""

    def __init__(
        self,
        source: Source,
        findings: Findings,
        history: History,
        opener: Opener | None,
        kept: Kept,
        listed: Container[str] = (),
    ) -> None:
        self._source = source
        self._findings = findings
        self._history = history
        self._opener = opener
        self._kept = kept
        self._listed = listed
        self._unopened: set[str] = set()

    def names(self) -> set[str]:
        """All that the log names."""
        wraps = self._history.wraps.items()
        return {f"keys/{session}/{sha}.wrap" for session, shas in wraps for sha in shas}

    def check(self, sessions: Iterable[str]) -> None:
        for session in sessions:
            wraps = self._history.wraps.get(session, {})
            if not wraps and self._history.opens[session].kind != "grant":
                log = f"log/{self._history.node}/{self._history.number}"
                detail = f"session {session}: has no key.wrap leaf, so nobody can ever read it"
                self._findings.defect(log, "unreadable", detail)
            for sha256, recipient in wraps.items():
                self._wrap(session, sha256, recipient)

    def _wrap(self, session: str, sha256: str, recipient: str) -> bytes | None:
        name = f"keys/{session}/{sha256}.wrap"
        if (data := self._read(name, session, sha256)) is None:
            return None
        try:
            wrap = json.loads(data)
            fields = {**wrap, "wrapped": None}
        except (ValueError, TypeError, RecursionError):
            fields = {}
        suite = SUITES.get(recipient.partition(":")[0])
        expected = {"format": 1, "session": session, "recipient": recipient, "suite": suite}
        if fields != {**expected, "wrapped": None}:
            self._findings.defect(name, "format", "is no wrap of this session for that recipient")
            return None
        return data

    def _read(self, name: str, session: str, sha256: str) -> bytes | None:
        try:
            data = read_named(self._source, self._findings, name, sha256, MOST_WRAP, absent=True)
        except Missing:
            if self._kept.gone(self._history, session):
                return None
            if name in self._listed:
                # A live gateway erased it meanwhile: the leaf is behind those that were read.
                self._findings.unresolved.append(f"{name}: went while it was verified; do it again")
            else:
                detail = "is missing, and no key.erase leaf says why: nobody can read the session"
                self._findings.defect(name, "unreadable", detail)
            return None
        if self._kept.erased(self._history, session):
            # The leaf comes first; a store's lock may hold the wrap for days.
            self._findings.pending.append({"object": name})
        return data

    def session_key(self, session: str) -> bytes | None:
        """The key, when one of the identity's wraps opens; otherwise says so once."""
        assert self._opener is not None
        gone = False
        for sha256, recipient in self._history.wraps.get(session, {}).items():
            name = f"keys/{session}/{sha256}.wrap"
            try:
                data = self._source.read(name, MOST_WRAP)
                if key := self._opener.unwrap(session, recipient, data):
                    return key
            except Missing:
                gone = self._kept.gone(self._history, session)
            except (ValueError, KeyError, TypeError) as error:
                if session not in self._unopened:
                    self._findings.defect(name, "unreadable", f"cannot be opened: {error}")
        if session not in self._unopened and not gone:
            self._unopened.add(session)
            self._findings.unresolved.append(f"session {session}: sealed to other recipients")
        return None


def read_named(
    source: Source, findings: Findings, name: str, sha256: str, most: int, *, absent: bool = False
) -> bytes | None:
    """An object that must be there and have this SHA-256; None and a defect otherwise.

    `absent`: what is not there raises Missing instead.
    """
    try:
        data = source.read(name, most)
    except Missing:
        if absent:
            raise
        findings.defect(name, "missing", "is missing, though the log names it")
        return None
    except ValueError as error:
        findings.defect(name, "format", str(error))
        return None
    if hashlib.sha256(data).hexdigest() != sha256:
        findings.defect(name, "digest", "has another SHA-256 than the log's leaf says")
        return None
    return data


def check_strays(
    source: Source, findings: Findings, names: Iterable[str], live: bool, wrapped: set[str]
) -> None:
    """What no leaf names. While a gateway writes, an object that is complete (its name is its
    SHA-256) may be ahead of its leaf: pending. Anything else does not belong here."""
    for name in sorted(names):
        match = _NAMED.fullmatch(name)
        ahead = live and match is not None
        if ahead and name.startswith("keys/"):
            # A key leaf lists all wraps of its session, so none can follow it.
            ahead = name.split("/")[1] not in wrapped
        unfinished = live and name.rpartition("/")[2].startswith(".")
        if match and ahead and not _is_named_by_digest(source, name, match["sha256"]):
            findings.defect(name, "digest", "has another SHA-256 than its name says")
        elif ahead or unfinished:
            findings.pending.append({"object": name})
        else:
            findings.defect(name, "stray", "does not belong here: no leaf of any log names it")


def _is_named_by_digest(source: Source, name: str, sha256: str) -> bool:
    digest = hashlib.sha256()
    try:
        with source.open(name) as chunks:
            while piece := chunks.read(1 << 20):
                digest.update(piece)
    except Missing:
        return True
    return digest.hexdigest() == sha256
