# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit reconcile`: a server's own log against the record."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from gateway.admin.cli._reading import instant
from gateway.admin.cli._record_options import RecordOptions, record_options, warn_of
from gateway.admin.cli.audit._backends import TOLERANCE_SECONDS, Backends
from gateway.admin.cli.audit._matching import Matching, hints
from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import Failed, json_text, print_json, table, visible
from gateway.protocols.postgresql.server_log import BadLog, Entry, Lines, Prefix, entries_of
from gateway.verify.report import counted

PREFIX = "%m [%p] "
MOST_TEXT = 2000
"""Characters of a statement that are printed."""
_PROGRESS_BYTES = 16 << 20
_CLOCKS_DIFFER = 2.0
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ServerLog:
    """Files of one server's log, as long as they were when the command began."""

    files: tuple[tuple[Path, int], ...]
    prefix: Prefix
    zone: tzinfo | None

    def entries(self, *, progress: bool = False) -> Iterator[tuple[Path, Entry]]:
        """Raises Failed, with the file and line."""
        done, total = 0, sum(size for _, size in self.files) or 1
        for path, size in self.files:
            with _opened(path) as source:
                lines = Lines(source, None if path.suffix == ".gz" else size)
                told, found = 0, False
                try:
                    for entry in entries_of(lines, self.prefix, self.zone):
                        found = True
                        yield path, entry
                        if progress and lines.read - told > _PROGRESS_BYTES:
                            told = lines.read
                            _show_progress(min(100, 100 * (done + told) // total))
                except BadLog as error:
                    where = f"{path}, line {lines.number}"
                    raise Failed(f"{where}: {visible(str(error))}", _CURE) from error
                except (OSError, EOFError) as error:
                    raise Failed(f"{path}: {error}") from error
                if lines.number and not found:
                    raise Failed(
                        f"{path}: no line of it is an entry as PostgreSQL writes it", _CURE
                    )
            done += size


_CURE = "--prefix and --timezone say how the server writes: SHOW log_line_prefix, log_timezone"


@click.command(
    epilog="""\b
Examples:
  trailgate audit reconcile --data ./data --log /var/log/postgresql/postgresql-15-main.log
  trailgate audit reconcile --data s3://evidence/prod --log monday.json --log tuesday.json"""
)
@click.option(
    "--log",
    "logs",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    required=True,
    help="PostgreSQL's log: stderr, csvlog or jsonlog; may be given again, oldest first.",
)
@click.option(
    "--prefix", default=PREFIX, show_default=True, help="log_line_prefix, where stderr is logged."
)
@click.option("--timezone", help="log_timezone, where it is not UTC; as Europe/Berlin.")
@click.option("--target", help="Only the record's sessions on this target.")
@click.option("--since", help="Only what was logged at or after this time, by the server's clock.")
@click.option("--until", help="Only what was logged at or before this time, by the server's clock.")
@record_options
@output_option("table", "json", "jsonl")
def reconcile(
    logs: tuple[Path, ...],
    prefix: str,
    timezone: str | None,
    target: str | None,
    since: str | None,
    until: str | None,
    output: str,
    **place: str | None,
) -> None:
    """A PostgreSQL server's own LOG against the record: what reached it past the gateway.

    The log needs log_connections, log_disconnections and log_statement=all. A backend is the
    gateway's where its process id and its start are those of a recorded session. What was logged
    before the record's first gateway started is left out, unless --since says otherwise.

    Exit codes: 0 all of it came through the gateway, 1 something did not, 2 could not be compared,
    or there was nothing to compare.
    """
    log = _server_log(logs, prefix, timezone)
    bounds = _epoch(instant(since)), _epoch(instant(until))
    recorded = RecordOptions(**place).opened()
    backends = Backends()
    try:
        backends.fill(recorded, target)
        backends.measure(hints(entry for _, entry in log.entries()))
        comparison = _Comparison(log, Matching(backends), bounds)
        _print(comparison, output)
    finally:
        backends.close()
    warn_of(recorded)
    if comparison.unmatched:
        raise SystemExit(1)
    comparison.require_any(target)


class _Comparison:
    """One pass over the log; what is unmatched is told as it is found."""

    def __init__(
        self, log: ServerLog, matching: Matching, bounds: tuple[float | None, float | None]
    ) -> None:
        self.matching = matching
        self._log = log
        self._since, self._until = bounds
        if self._since is None and matching.backends.count:
            self._since = matching.backends.first - matching.backends.clock - TOLERANCE_SECONDS
        self._first: float | None = None
        self._last: float | None = None
        self._logged: list[float] = []
        """When the first and the last entry of the whole log were written."""
        self.unmatched = 0
        self.compared = 0
        """Logins and statements of the interval."""
        self.before = 0
        """Entries from before the record began."""

    def documents(self) -> Iterator[Document]:
        for path, entry in self._log.entries(progress=sys.stderr.isatty()):
            known = self.matching.matched + self.matching.refused
            past = self.matching.take(entry)
            known = self.matching.matched + self.matching.refused - known
            self._logged = [*self._logged[:1], entry.at]
            if self._since is not None and entry.at < self._since:
                self.before += past
                continue
            if self._until is not None and entry.at > self._until:
                continue
            self._first = entry.at if self._first is None else min(self._first, entry.at)
            self._last = entry.at if self._last is None else max(self._last, entry.at)
            self.compared += known + past
            if past:
                self.unmatched += 1
                yield {
                    "at": _written(entry.at),
                    "log": str(path),
                    "line": entry.line,
                    "user": entry.user,
                    "client": entry.client,
                    "text": entry.text[:MOST_TEXT],
                }

    def require_any(self, target: str | None) -> None:
        """That something was compared: nothing found in nothing is no answer. Raises Failed."""
        if self.compared:
            return
        if not self._logged:
            raise Failed("nothing was compared: the log is empty", "name the log by --log")
        if self._first is None:
            began, ended = _written(min(self._logged)), _written(max(self._logged))
            raise Failed(
                f"nothing was compared: no entry of the log is in the interval; it was written "
                f"from {began} to {ended}",
                "name a log of that time, or others by --since and --until",
            )
        what = f" on the target {visible(target)}" if target is not None else ""
        sessions = self.matching.backends.count
        raise Failed(
            "nothing was compared: the log tells of no login and no statement in the interval, "
            f"and the record of {counted(sessions, 'login')}{what}",
            "the server needs log_connections=on and log_statement=all (SHOW tells), and the "
            "record its --data and --target",
        )

    def rest(self) -> Document:
        """What stands behind the unmatched ones."""
        return {
            "interval": {"since": _written(self._first), "until": _written(self._last)},
            "refused": self.matching.refused,
            "clock_difference": round(self.matching.backends.clock, 3),
        }


def _print(comparison: _Comparison, output: str) -> None:
    if output == "jsonl":
        for document in comparison.documents():
            print_json(document)
    elif output == "json":
        # As it is found: there may be more of it than memory holds.
        click.echo('{"unmatched": [', nl=False)
        for number, document in enumerate(comparison.documents()):
            click.echo((", " if number else "") + json_text(document), nl=False)
        rest = {"matched": comparison.matching.matched, **comparison.rest()}
        click.echo("], " + json_text(rest)[1:])
    else:
        _print_table(comparison)
    _notes(comparison)


def _print_table(comparison: _Comparison) -> None:
    columns = ("at", "log", "line", "user", "client", "text")
    page: list[list[str]] = []
    for document in comparison.documents():
        page.append([str(document[name] if document[name] is not None else "") for name in columns])
        if len(page) == _PAGE:
            click.echo(table(page, columns))
            page = []
    if page:
        click.echo(table(page, columns))
    interval = comparison.rest()["interval"]
    click.echo(
        f"{comparison.matching.matched} through the gateway, {comparison.unmatched} past it,"
        f" {comparison.matching.refused} refused by the server"
    )
    click.echo(f"logged from {interval['since'] or '-'} to {interval['until'] or '-'}")


_PAGE = 1000


def _notes(comparison: _Comparison) -> None:
    clock = comparison.matching.backends.clock
    if abs(clock) > _CLOCKS_DIFFER:
        click.echo(
            f"the gateway's clock is {clock:+.1f} s from the server's: allowed for", err=True
        )
    if comparison.before:
        entries = "1 entry" if comparison.before == 1 else f"{comparison.before} entries"
        click.echo(
            f"{entries} from before the record began left out: --since takes them in",
            err=True,
        )


# --- the log's files -----------------------------------------------------------------------------


def _server_log(logs: Sequence[Path], prefix: str, timezone: str | None) -> ServerLog:
    try:
        files = tuple((path, os.stat(path).st_size) for path in logs)
        zone = ZoneInfo(timezone) if timezone is not None else None
        return ServerLog(files, Prefix.parse(prefix), zone)
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}", "name the log by --log") from error
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Failed(f"{visible(timezone or '')!r} is no time zone", "as Europe/Berlin") from error
    except BadLog as error:
        raise Failed(f"--prefix: {error}", "SHOW log_line_prefix says how it is set") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        try:
            source: Any = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}", "name the log by --log") from error
        yield stack.enter_context(source)


def _show_progress(percent: int) -> None:
    click.echo(f"\r{percent} % of the log", err=True, nl=percent == 100)


def _epoch(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text is not None else None


def _written(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
