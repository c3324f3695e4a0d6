# SPDX-License-Identifier: GPL-3.0-or-later
"""One verification from end to end. `verify` is what commands call."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from gateway.verify.authority import Authority
from gateway.verify.completeness import Completeness, cite
from gateway.verify.cosigned import size_of
from gateway.verify.findings import CannotCheck, Findings, Progress
from gateway.verify.grants import Grants
from gateway.verify.history import History
from gateway.verify.kept import Kept
from gateway.verify.lake import check_lake
from gateway.verify.log import LogReader, LogReading
from gateway.verify.note import NoteError
from gateway.verify.objects import MOST_POLICY, Keys, check_strays, read_named
from gateway.verify.opening import Opener
from gateway.verify.place import journal_beside, open_source
from gateway.verify.sessions import SessionsPass
from gateway.verify.source import Missing
from gateway.verify.trust import TRUST_CURE, Trust
from gateway.verify.witnessing import Witnessing, other_view

_LOG = re.compile(r"(log/[^/]+/(?:0|[1-9]\d*))/.+")
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify. `since` and `until`: RFC 3339; sessions that touch the interval. `session`:
    an id, or how it begins."""

    path: str
    trust: Path | None = None
    identity: Path | None = None
    session: str | None = None
    since: str | None = None
    until: str | None = None
    keys: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    as_of: str | None = None
    """When the evidence was copied: a log that was not stopped reaches to this time."""
    fork: str | None = None
    """What somebody else was shown: evidence, or a witness's folder."""
    lake: str | None = None
    """A lake, a folder or s3://, that must say what the evidence says."""


def verify(request: Request, progress: Progress | None = None) -> Findings:
    """Verify; the findings hold the verdict. Raises CannotCheck when there is nothing to judge."""
    return Verification(request, progress).run()


class Verification:
    """Holds what the steps share."""

    def __init__(self, request: Request, progress: Progress | None) -> None:
        self._request = request
        self._tell = progress or (lambda what, done, total: None)
        self._findings = Findings()
        self._since, self._until = instant(request.since), instant(request.until)
        if (self._since or "") > (self._until or "~"):
            raise CannotCheck(f"nothing is since {request.since} and until {request.until}")
        self._trusted = self._load_trust(request.trust)
        self._opener = Opener.load(request.identity) if request.identity else None
        self._as_of = instant(request.as_of)
        self._shown = list(self._trusted.seen) if self._trusted else []
        self._source, self._writing = open_source(request)
        # A gateway may just start there: what it writes before its first checkpoint is no stray.
        self._beside = journal_beside(request.path).is_dir()
        # Of a bucket nobody can tell: keys and tiles lie there before a start's first checkpoint.
        self._starting = self._beside or request.path.startswith("s3://")
        self._grants = Grants(self._findings)
        self._done = 0
        self._total = 0
        self._found_session = False
        self._kept: Kept

    def _load_trust(self, path: Path | None) -> Trust | None:
        if path is None:
            return None
        try:
            trusted = Trust.load(path)
        except (OSError, UnicodeDecodeError, NoteError) as error:
            raise CannotCheck(f"the trust file {path}: {error}", TRUST_CURE) from error
        self._findings.trust = "pinned"
        keys = [*trusted.logs.values(), *trusted.witnesses.values(), *trusted.roots.values()]
        self._findings.trusted_by = sorted({key.name for key in keys})
        return trusted

    def run(self) -> Findings:
        findings = self._findings
        # The list comes first: whatever a live gateway adds later is ahead of it, never behind.
        listed = self._source.names()
        oddities = self._source.oddities()
        logs = self._read_logs(listed)
        self._kept = Kept(findings, logs, self._trusted, self._as_of)
        for oddity in oddities:
            if oddity[1] != "deleted" or not self._kept.may_be_deleted(logs, oddity[0]):
                findings.defect(*oddity)
        self._expect_trusted(logs)
        Witnessing(findings, self._trusted, self._as_of).check(logs)
        Authority(findings, self._trusted).check(logs)
        Completeness(findings, self._trusted, self._as_of).check(logs)
        if self._request.fork is not None:
            self._compare(self._request.fork, logs)
        self._readme(logs)
        self._total = sum(one.bytes for log in logs for one in log.history.segments)
        known: set[str] = {"README.json"}
        for log in logs:
            known |= self._check_log(log, logs, listed)
        named = {f"{log.history.node}/{log.history.number}": log for log in logs}
        unsound = {name for name, log in named.items() if not log.sound}
        self._grants.finish({name: log.history for name, log in named.items()}, unsound)
        self._strays(listed, known, logs)
        self._summary(logs)
        if self._request.lake is not None:
            self._lake(self._request.lake, {name: log for name, log in named.items() if log.sound})
        return findings

    def _lake(self, place: str, logs: dict[str, LogReading]) -> None:
        request, chosen = self._request, set[str]()
        for log in logs.values():
            selected = self._select(log.history)
            chosen |= log.history.opens.keys() if selected is None else selected
        histories = {name: log.history for name, log in logs.items()}
        whole = request.session is None and self._since is None and self._until is None
        where = (request.endpoint_url, request.region)
        check_lake(place, where, self._source, histories, self._findings,
                   lambda session: whole or session in chosen)  # fmt: skip

    # Logs

    def _read_logs(self, listed: dict[str, int]) -> list[LogReading]:
        paths = {match[1] for name in listed if (match := _LOG.fullmatch(name))}
        if not paths and not self._trusted:
            raise CannotCheck(
                f"{self._source.place}: no log lies here",
                "name the folder that has README.json and log/, or the data folder above it",
            )
        order = sorted(paths, key=lambda path: (path.split("/")[1], int(path.split("/")[2])))
        logs = self._in_turn(order, listed)
        for log in logs:
            self._findings.add_defects(log.defects)
            if log.behind:
                self._findings.pending.append({"object": log.behind})
        self._findings.logs = len(logs)
        return logs

    def _in_turn(self, order: list[str], listed: dict[str, int]) -> list[LogReading]:
        """The newest of a node first: it says how far the one before it had come."""
        logs: list[LogReading] = []
        for path in reversed(order):
            cited = [note for one in logs for before, note in [cite(one)] if before == path]
            shown, self._shown = self._shown, [*self._shown, *(note for note in cited if note)]
            logs.insert(0, self._read_log(path, listed))
            self._shown = shown
            logs[0].cited = max((size_of(note) for note in cited), default=-1)
        return logs

    def _read_log(self, path: str, listed: dict[str, int]) -> LogReading:
        """A live gateway may replace partial tiles under our hands; then read again."""
        names = self._below(path, listed)
        for attempt in range(_ATTEMPTS):
            reading = LogReader(self._source, path, names, self._trusted, self._shown).read()
            if not reading.defects:
                return reading
            time.sleep(0.1 * attempt)
            # The list may be older than the checkpoint that was read, and lack its tiles.
            now = self._below(path, self._source.names())
            if now == names and not self._moved(path, reading.head):
                return reading
            names = now
        return reading

    def _below(self, path: str, listed: dict[str, int]) -> list[str]:
        return sorted(name for name in listed if name.startswith(path + "/"))

    def _moved(self, path: str, head: bytes) -> bool:
        try:
            return self._source.read(f"{path}/checkpoint", 65536) != head
        except (Missing, ValueError):
            return False

    def _expect_trusted(self, logs: list[LogReading]) -> None:
        found = {f"trailgate/{log.history.node}/{log.history.number}" for log in logs}
        for origin in sorted(set(self._trusted.logs if self._trusted else ()) - found):
            name = "log/" + origin.removeprefix("trailgate/")
            self._findings.defect(name, "missing", "is missing: the trust file names this log")

    def _compare(self, fork: str, logs: list[LogReading]) -> None:
        """This view against another: one of the same logs must be the beginning of the other."""
        try:
            other, _ = open_source(replace(self._request, path=fork, keys=None))
            forks = other_view(other, Path(fork), self._source, logs)
        except (OSError, NoteError) as error:
            cure = "name what the other was shown: evidence, or a witness's folder"
            raise CannotCheck(f"{fork}: {error}", cure) from error
        for path, detail in forks:
            self._findings.defect(path, "fork", detail)

    def _readme(self, logs: list[LogReading]) -> None:
        findings = self._findings
        try:
            digest = hashlib.sha256(self._source.read("README.json", 65536)).hexdigest()
        except Missing:
            findings.defect("README.json", "missing", "is missing")
            return
        except ValueError as error:
            findings.defect("README.json", "format", str(error))
            return
        for log in logs:
            if log.history.readme not in ("", digest):
                detail = f"has another SHA-256 than the last start of {log.path} says"
                findings.defect("README.json", "digest", detail)

    # One log

    def _check_log(
        self, log: LogReading, logs: list[LogReading], listed: dict[str, int]
    ) -> set[str]:
        history = log.history
        keys = Keys(self._source, self._findings, history, self._opener, self._kept, listed)
        ahead = not history.stopped or self._starting
        known = log.known | log.beyond if ahead else set(log.known)
        known |= {one.object for one in history.segments} | keys.names()
        known |= {f"policy/{sha256}" for sha256 in history.policies}
        if not log.sound:
            return known
        selected = self._select(history)
        keys.check(sorted(history.opens) if selected is None else sorted(selected))
        for sha256 in history.policies:
            name = f"policy/{sha256}"
            read_named(self._source, self._findings, name, sha256, MOST_POLICY)
        self._findings.gaps += history.gaps
        self._sessions(log, logs, listed, selected, keys)
        return known

    def _sessions(
        self,
        log: LogReading,
        logs: list[LogReading],
        listed: dict[str, int],
        selected: set[str] | None,
        keys: Keys,
    ) -> None:
        history = log.history
        if self._opener:
            self._opener.use(keys.session_key)
        sessions = SessionsPass(
            self._source,
            self._findings,
            history,
            selected=selected,
            unshipped=self._writing,
            progress=self._progress,
            opener=self._opener,
            grants=self._grants,
            kept=self._kept,
        )
        sessions.run(listed)
        newest = max(one.history.number for one in logs if one.history.node == history.node)
        sessions.settle(superseded=history.number < newest)
        complete = history.last_at
        if not history.stopped and sessions.last_wall_ns:
            complete = rfc3339(sessions.last_wall_ns)
        previous = self._findings.complete_to
        self._findings.complete_to = min(previous, complete) if previous else complete

    def _select(self, history: History) -> set[str] | None:
        """The sessions that were asked for; None for all."""
        request = self._request
        if request.session is not None:
            chosen = {one for one in history.opens if one.startswith(request.session)}
            self._found_session |= bool(chosen)
            return chosen
        if self._since is None and self._until is None:
            return None
        since, until = self._since or "", self._until or "~"
        return {
            session
            for session, opened in history.opens.items()
            if opened.at <= until
            and (session not in history.closes or history.closes[session].at >= since)
        }

    def _progress(self, name: str, size: int) -> None:
        self._done += size
        self._tell(name, self._done, self._total)

    # The end

    def _strays(self, listed: dict[str, int], known: set[str], logs: list[LogReading]) -> None:
        broken = tuple(log.path + "/" for log in logs if not log.sound)
        left = {name for name in listed.keys() - known if not name.startswith(broken)}
        if broken:
            # What a log that can't be read names is unknown: nothing else can be called stray.
            left = {name for name in left if name.startswith("log/")}
        live = self._beside or any(not log.history.stopped for log in logs)
        wrapped = {session for log in logs for session in log.history.wraps}
        keys = {name for name in left if name.startswith("keys/")}
        check_strays(self._source, self._findings, keys, live or self._starting, wrapped)
        check_strays(self._source, self._findings, left - keys, live, wrapped)

    def _summary(self, logs: list[LogReading]) -> None:
        findings, request = self._findings, self._request
        starts = [log.history.first_at for log in logs if log.history.first_at]
        ends = [log.history.last_at for log in logs if log.history.last_at]
        findings.since = self._since or min(starts, default=None)
        findings.until = self._until or max(ends, default=None)
        if self._since and ends and max(ends) < self._since:
            findings.unresolved.append(f"the evidence ends at {max(ends)}, before that time begins")
        if self._until and starts and self._until < min(starts):
            findings.unresolved.append(f"the evidence begins at {min(starts)}, after that time")
        if request.session is not None and not self._found_session:
            findings.unresolved.append(f"session {request.session}: no log here opened it")
        if not any(log.size for log in logs) and not findings.defect_count:
            findings.unresolved.append("no log here has an entry yet")
        sealed_to_others = any("other recipients" in text for text in findings.unresolved)
        if self._opener and not sealed_to_others:
            findings.content = "opened"


def instant(text: str | None) -> str | None:
    """RFC 3339 (or a date) in the form that leaves have. Raises CannotCheck."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CannotCheck(f"{text!r} is no time", "write 2026-11-24T12:00:00Z") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339(wall_ns: int) -> str:
    """Nanoseconds since the epoch, as leaves write times."""
    try:
        moment = datetime.fromtimestamp(wall_ns // 10**9, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{wall_ns % 10**9 // 1000:06}Z"
