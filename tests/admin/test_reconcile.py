# SPDX-License-Identifier: GPL-3.0-or-later
"""The join of a server's log with the record: process ids that come again, clocks, tolerance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.admin.cli.audit._backends import Backends
from gateway.admin.cli.audit._matching import Matching, hints
from gateway.protocols.postgresql.server_log import Entry, Kind

SESSION, OTHER = "a" * 26, "b" * 26


@pytest.fixture
def backends() -> Iterator[Backends]:
    made = Backends()
    made.add([(SESSION, 77, 1000.0, 1000.2, 1100.0), (OTHER, 78, 1010.0, 1010.2, float(1 << 40))])
    yield made
    made.close()


def entry(pid: int, at: float, kind: Kind = Kind.STATEMENT, **more: object) -> Entry:
    text = {"text": "select 1", "user": "app", "of_client": True, **more}
    return Entry(1, at, pid, kind, **text)  # type: ignore[arg-type]


def past(backends: Backends, *entries: Entry) -> list[bool]:
    matching = Matching(backends)
    return [matching.take(one) for one in entries]


def test_a_process_id_counts_with_its_start(backends: Backends) -> None:
    assert past(backends, entry(77, 1050.0, started=1000.0)) == [False]
    assert past(backends, entry(77, 1050.0, started=900.0)) == [True]
    assert past(backends, entry(79, 1050.0, started=1000.0)) == [True]
    # Seconds are whole in the log, and what a client still had under way may run a little longer.
    assert past(backends, entry(77, 1103.0, started=1000.0)) == [False]


def test_one_session_of_the_record_is_one_of_the_server(backends: Backends) -> None:
    """The process id is used again within the tolerance."""
    first, second = entry(77, 1000.5, started=1000.0), entry(77, 1002.5, started=1002.0)
    assert past(backends, first, second, first) == [False, True, False]


def test_without_starts_the_time_counts(backends: Backends) -> None:
    assert past(backends, entry(77, 1050.0), entry(77, 1200.0)) == [False, True]
    assert past(backends, entry(78, 5000.0), entry(78, 900.0)) == [False, True]


def test_a_link_that_came_in_begins_another_backend(backends: Backends) -> None:
    again = entry(78, 4000.0, Kind.RECEIVED, user=None, of_client=False)
    assert past(backends, entry(78, 3000.0), again, entry(78, 4000.1)) == [False, False, True]


def test_a_backend_that_says_nothing_known_is_told_once(backends: Backends) -> None:
    quiet = [entry(90, 1050.0, Kind.OTHER), entry(90, 1051.0, Kind.GONE)]
    assert past(backends, *quiet) == [True, False]
    background = entry(91, 1050.0, Kind.OTHER, user=None, of_client=False)
    assert past(backends, background) == [False]


def test_logins_that_the_server_refused_got_nowhere(backends: Backends) -> None:
    matching = Matching(backends)
    refused = [entry(90, 1050.0, Kind.RECEIVED), entry(90, 1050.1, Kind.REFUSED)]
    assert [matching.take(one) for one in refused] == [False, False]
    assert matching.refused == 1
    assert matching.take(entry(92, 1050.0, Kind.LOGIN)) is True


def test_an_error_repeats_its_statement(backends: Backends) -> None:
    failed = entry(90, 1050.1, of_error=True)
    assert past(backends, entry(90, 1050.0), failed, failed) == [True, False, False]
    assert past(backends, failed) == [True]


def test_what_was_run_twice_is_told_twice(backends: Backends) -> None:
    assert past(backends, entry(90, 1050.0), entry(90, 1050.1)) == [True, True]


def test_the_clock_is_measured_by_the_middle_of_the_hints(backends: Backends) -> None:
    told = [
        entry(77, 4600.2, Kind.LOGIN, application=f"{SESSION} psql"),
        entry(78, 4610.2, Kind.LOGIN, application=OTHER),
        entry(99, 1.0, Kind.LOGIN, application=SESSION),  # forged: the record knows better
        entry(77, 9999.0, Kind.LOGIN, application="psql"),
    ]
    backends.measure(hints(told))
    assert backends.clock == pytest.approx(-3600)
    assert past(backends, entry(77, 4650.0, started=4600.0)) == [False]
    assert past(backends, entry(77, 1050.0, started=1000.0)) == [True]
