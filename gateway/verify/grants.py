# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants from both ends: sessions cite records of grants, these cite their parents and mints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.verify.findings import Findings
from gateway.verify.history import History
from gateway.verify.segment import CLOSE, GRANT, OPEN, session_text

_FACTS = ("grant", "root_grant", "origin", "groups", "chain", "login")
"""What a session's open frame and its grant's record must say alike."""


class _Odd(Exception):
    """What is wrong with a record; the text goes behind the grant's name."""


@dataclass(slots=True)
class Known:
    """A grant's record, as its frames tell. Digests stand for what is only compared."""

    log: str
    record: str
    grant: str
    root: str
    event: str
    opened: str
    facts: bytes
    origin: bytes
    chain: bytes
    narrowing: bytes
    narrowings: int
    expires: str
    cited: int = 0
    """Sessions that cite it, so far."""
    closed: bool = False
    suspended: bool = False


@dataclass(slots=True)
class _Resumed:
    known: Known
    log: str | None
    record: str | None


class Grants:
    """What is known of grants over all logs; `finish` looks for the mints of the resumed ones."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.records: dict[str, Known] = {}
        self.mints: dict[str, str] = {}
        """Grant to the record of its mint."""
        self.resumed: list[_Resumed] = []

    def defect(self, log: str, grant: str, detail: str) -> None:
        self._findings.defect(f"log/{log}", "grant", f"grant {grant}: {detail}")

    def finish(self, histories: dict[str, History], unsound: set[str]) -> None:
        """`histories`: every log that was given, by NODE/NUMBER."""
        elsewhere: dict[str, list[str]] = {}
        for one in self.resumed:
            if one.log is None or one.record is None:
                self._findings.unresolved.append(f"grant {one.known.grant}: no log has its mint")
            elif one.log not in histories:
                elsewhere.setdefault(one.log, []).append(one.known.grant)
            elif one.log not in unsound:
                self._mint(one.known, one.log, one.record, histories[one.log])
        for log, grants in sorted(elsewhere.items()):
            first, count = grants[0], len(set(grants))
            text = f"grant {first}" + (f" and {count - 1} others" if count > 1 else "")
            self._findings.unresolved.append(f"{text}: minted in log/{log}, which was not given")

    def _mint(self, known: Known, log: str, record: str, history: History) -> None:
        opened = history.opens.get(record)
        if opened is None or opened.kind != "grant":
            if opened is None and not history.stopped and history.last_at < known.opened:
                # Its gateway has not signed so far yet.
                self._findings.pending.append({"grant": known.grant, "log": f"log/{log}"})
            else:
                self.defect(known.log, known.grant, f"log/{log} has no record {record} of its mint")
            return
        mint = self.records.get(record)
        if mint is None:
            return  # its frames were not read: that is told elsewhere, or they were not asked for
        if mint.event != "mint" or (mint.facts, mint.narrowing) != (known.facts, known.narrowing):
            detail = f"says other things than the record {record} of its mint in log/{log}"
            self.defect(known.log, known.grant, detail)


class LogGrants:
    """The grants of one log; `frame` takes open, close and grant frames in the journal's order.

    `excused` tells of sessions whose frames may be missing for a reason that is told elsewhere.
    """

    def __init__(
        self,
        grants: Grants,
        findings: Findings,
        history: History,
        selected: set[str] | None,
        excused: Callable[[str], bool],
    ) -> None:
        self._grants = grants
        self._findings = findings
        self._history = history
        self._log = f"{history.node}/{history.number}"
        self._selected = selected
        self._excused = excused

    def frame(self, session: bytes, kind: int, meta: bytes) -> None:
        text = session_text(session)
        opened = self._history.opens.get(text)
        if opened is None:
            return  # which the segment's reader refuses
        of_grant = opened.kind == "grant"
        if kind == OPEN and of_grant:
            self._opened(text, _object(meta))
        elif kind == OPEN and opened.kind == "session":
            self._cited(text, _object(meta))
        elif kind == GRANT and not of_grant:
            self._session_defect(text, "has a frame of a grant")
        elif kind == GRANT:
            self._told(text, _object(meta))
        elif kind == CLOSE and of_grant:
            self._closed(text, _object(meta))

    def _session_defect(self, text: str, detail: str) -> None:
        self._findings.defect(f"log/{self._log}", "grant", f"session {text}: {detail}")

    # --- a session -------------------------------------------------------------------------------

    def _cited(self, text: str, meta: dict[str, Any]) -> None:
        if self._selected is not None and text not in self._selected:
            return
        grant, record = meta.get("grant"), meta.get("grant_record")
        if grant is None and record is None:
            return  # not of a client
        leaf = self._history.opens.get(record) if isinstance(record, str) else None
        if leaf is None or leaf.kind != "grant":
            self._session_defect(text, f"cites grant {grant}, of which this log has no record")
            return
        known = self._grants.records.get(str(record))
        if known is None:
            if self._selected is None and not self._excused(str(record)):
                self._session_defect(text, f"stands before the record {record} that it cites")
            return
        known.cited += 1
        if known.closed:
            self._session_defect(text, f"cites grant {known.grant} after its record {record} ended")
        elif _digest([meta.get(name) for name in _FACTS]) != known.facts:
            detail = f"cites grant {known.grant} with another origin or chain than it has"
            self._session_defect(text, detail)

        if known.suspended:
            self._session_defect(text, f"began while grant {known.grant} was suspended")

    # --- a grant's record ------------------------------------------------------------------------

    def _opened(self, text: str, meta: dict[str, Any]) -> None:
        grant = str(meta.get("grant"))
        try:
            known = self._known(text, meta)
            self._grants.records[text] = known
            if known.event == "mint":
                self._minted(known, meta)
            else:
                minted = meta["minted"]
                self._grants.resumed.append(_Resumed(known, minted["log"], minted["record"]))
        except _Odd as odd:
            self._grants.defect(self._log, grant, f"its record {text} {odd}")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
            self._grants.defect(self._log, grant, f"its record {text} is not of this format")

    def _known(self, text: str, meta: dict[str, Any]) -> Known:
        chain, narrowing, event = meta["chain"], meta["narrowing"], meta["event"]
        if meta["record"] != "grant" or event not in ("mint", "resume"):
            raise _Odd(f"opens as {event!r}, not with its mint")
        path = [meta["root_grant"], *(hop["grant"] for hop in chain)]
        if len(set(path)) != len(path):
            raise _Odd("has a chain that passes one grant twice")
        if path[-1] != meta["grant"]:
            raise _Odd("has a chain that ends in another grant")
        parent = meta["parent"]
        if (parent["grant"] if parent else None) != (path[-2] if len(path) > 1 else None):
            raise _Odd("names another parent than its chain")
        return Known(
            self._log, text, meta["grant"], meta["root_grant"], event, meta["opened"],
            _digest([meta[name] for name in _FACTS]), _origin(meta), _digest(chain),
            _digest(narrowing), len(narrowing), _text(meta["expires"]),
        )  # fmt: skip

    def _minted(self, known: Known, meta: dict[str, Any]) -> None:
        first = self._grants.mints.setdefault(known.grant, known.record)
        if first != known.record:
            raise _Odd(f"mints it again: the record {first} did so before")
        if meta["parent"] is None:
            return
        record = _text(meta["parent"]["record"])
        leaf = self._history.opens.get(record)
        if leaf is None or leaf.kind != "grant":
            raise _Odd(f"cites the record {record} of its parent, which this log does not have")
        above = self._grants.records.get(record)
        if above is None:
            if self._selected is None and not self._excused(record):
                raise _Odd(f"stands before the record {record} of its parent")
            return
        if complaint := _complaint(known, meta, above):
            raise _Odd(complaint)

    def _told(self, text: str, meta: dict[str, Any]) -> None:
        known = self._grants.records.get(text)
        if known is not None and meta.get("event") in ("suspend", "restore"):
            known.suspended = meta["event"] == "suspend"

    def _closed(self, text: str, meta: dict[str, Any]) -> None:
        known = self._grants.records.get(text)
        if known is None:
            return
        known.closed = True
        count = meta.get("sessions")
        if self._selected is not None or self._excused(text):
            return
        if type(count) is not int:
            self._grants.defect(self._log, known.grant, f"its record {text} ends without a count")
        elif known.cited != count and not (known.cited < count and self._history.gaps):
            detail = f"its record {text} counts {count} sessions at its end, and {known.cited} cite"
            self._grants.defect(self._log, known.grant, detail + " it")


def _complaint(known: Known, meta: dict[str, Any], above: Known) -> str:
    """Why a grant cannot stand below that one; empty: it can."""
    if above.grant != meta["parent"]["grant"]:
        return f"cites the record of {above.grant} as its parent's"
    if above.closed:
        return "was minted after its parent's record had ended"
    if above.suspended:
        return "was minted while its parent was suspended"
    if above.root != known.root or above.origin != known.origin:
        return "has another origin than its parent"
    if _digest(meta["chain"][:-1]) != above.chain:
        return "has another chain than its parent and one hop"
    narrowing = meta["narrowing"]
    if _digest(narrowing[: above.narrowings]) != above.narrowing:
        return "is narrowed less than its parent"
    if known.expires > above.expires:
        return "outlives its parent"
    return ""


def _object(meta: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(meta)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _origin(meta: dict[str, Any]) -> bytes:
    """The origin, its groups, and the login that they come from."""
    login = {name: value for name, value in meta["login"].items() if name != "actors"}
    return _digest([meta["origin"], meta["groups"], login])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _digest(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
