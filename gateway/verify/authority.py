# SPDX-License-Identifier: GPL-3.0-or-later
"""Who vouches for a log's keys: certificates of the roots that the trust file names.

Every checkpoint's key must be certified, and the certificate in force at the checkpoint's time:
that of its last leaf, and where a witness cosigned it, the witness's.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.verify.certificate import Certificate, UnknownRoot, open_certificate
from gateway.verify.findings import Findings
from gateway.verify.log import LogReading
from gateway.verify.note import NoteError, VerifierKey
from gateway.verify.trust import Trust


class Authority:
    """Judges the keys of logs that were read."""

    def __init__(self, findings: Findings, trust: Trust | None) -> None:
        self._findings = findings
        self._trust = trust or Trust()

    def check(self, logs: list[LogReading]) -> None:
        """Note every checkpoint whose key nobody vouches for at its time."""
        for log in logs:
            certificates = self.certificates(log)
            pinned = self._trust.keys.get(_origin(log), [])
            if log.sound and self._trust.roots and not pinned:
                self._checkpoints(log, certificates)

    def certificates(self, log: LogReading) -> list[Certificate]:
        """Those of the log's leaves and of the trust file; a bad one is a defect."""
        found = [one for one in self._trust.certificates if one.key.name == _origin(log)]
        for text in log.history.certificates:
            try:
                one = open_certificate(text.encode(), self._trust.roots.values())
                if one.key.name != _origin(log):
                    raise NoteError(f"is of {one.key.name}, another log")
            except UnknownRoot as error:
                self._findings.unresolved.append(f"{log.path}: a certificate {error}")
            except NoteError as error:
                self._findings.defect(log.path, "certificate", f"a certificate {error}")
            else:
                found.append(one)
        return found

    def _checkpoints(self, log: LogReading, certificates: list[Certificate]) -> None:
        """The first checkpoint that is wrong in each way, for each key."""
        assert log.chain is not None
        told: set[tuple[VerifierKey, str]] = set()
        for size in sorted(log.signed):
            key, at = log.chain.at(size), log.times.get(size, "")
            kind, detail = judge(key, at, certificates) if at else ("", "")
            if kind and (key, kind) not in told:
                told.add((key, kind))
                self._findings.defect(f"{log.path}/checkpoints/{size}", kind, detail)
        self._cosigned_late(log, certificates)

    def _cosigned_late(self, log: LogReading, certificates: list[Certificate]) -> None:
        """Leaves can be dated back by whoever has an expired key; a witness's time cannot."""
        assert log.chain is not None
        for one in log.cosigned:
            if one.witnessed_at is None:
                continue
            key, size = log.chain.at(one.checkpoint.size), one.checkpoint.size
            moment = datetime.fromtimestamp(one.witnessed_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            kind, _ = judge(key, moment, certificates)
            if kind == "expired" and not judge(key, log.times.get(size, ""), certificates)[0]:
                self._findings.unresolved.append(
                    f"{log.path}/cosigned/{size}: was cosigned at {moment}, when its key's "
                    "certificate had ended, though its leaves are older"
                )


def judge(key: VerifierKey, at: str, certificates: list[Certificate]) -> tuple[str, str]:
    """(kind, detail) of what is wrong with a checkpoint of that key and time; empty: nothing."""
    own = [one for one in certificates if one.key == key]
    if not own:
        return "uncertified", f"is signed by {key.text()}, for which no root gave a certificate"
    if any(one.holds_at(at) for one in own):
        return "", ""
    ended = [one.not_after for one in own if one.not_after <= at]
    if ended:
        detail = f"is of {at}; the certificate of its key ended at {max(ended)}"
        return "expired", detail
    begins = min(one.not_before for one in own)
    return "not_yet_valid", f"is of {at}; the certificate of its key begins at {begins}"


def _origin(log: LogReading) -> str:
    return f"trailgate/{log.history.node}/{log.history.number}"
