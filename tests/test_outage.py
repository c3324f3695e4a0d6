# SPDX-License-Identifier: GPL-3.0-or-later
"""What the log says of work that fails each second for a while."""

from __future__ import annotations

import logging

import pytest

from gateway.model import StoreFailed
from gateway.outage import REPEAT_SECONDS, Outage

AWAY = StoreFailed("store.db: disk I/O error: look at the disk")


class Watch:
    """Work that is tried each second, by a clock of its own."""

    def __init__(self, level: int = logging.WARNING) -> None:
        self.at = 0.0
        log = logging.getLogger("tests.outage")
        self.outage = Outage(log, "it fails", "it works", level=level, now=lambda: self.at)

    def fails(self, seconds: int, error: Exception = AWAY) -> None:
        for _ in range(seconds):
            self.outage.failed(error)
            self.at += 1

    def works(self, seconds: int) -> None:
        for _ in range(seconds):
            self.outage.worked()
            self.at += 1


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, bool]]:
    return [(one.levelname, one.getMessage(), bool(one.exc_info)) for one in caplog.records]


def test_a_store_that_is_away_is_told_once_at_each_end(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    watch.works(3)
    watch.fails(40)
    watch.works(10)
    watch.fails(1)
    watch.works(1)
    once = [("WARNING", "it fails", False), ("WARNING", "it works", False)]
    assert told(caplog) == once * 2
    fails, works, *_ = (vars(one) for one in caplog.records)
    assert fails["cause"] == str(AWAY)
    assert (works["seconds"], works["failures"]) == (40, 40)


def test_a_long_outage_is_repeated_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    watch.fails(int(REPEAT_SECONDS) * 3)
    assert [vars(one)["seconds"] for one in caplog.records] == [0, 300, 600]


def test_what_nobody_foresaw_has_its_traceback_once_per_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = Watch()
    watch.fails(5)
    watch.fails(5, ValueError("a mistake of ours"))
    watch.fails(5, KeyError("another"))
    watch.fails(5, ValueError("a mistake of ours"))
    assert told(caplog) == [
        ("WARNING", "it fails", False),
        ("ERROR", "it fails", True),
        ("ERROR", "it fails", True),
    ]
    watch.works(1)
    watch.fails(1, ValueError("again"))
    assert told(caplog)[3:] == [("WARNING", "it works", False), ("ERROR", "it fails", True)]


def test_the_quieter_ones_keep_to_their_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch(logging.INFO)
    watch.fails(2)
    watch.works(2)
    assert told(caplog) == [("INFO", "it fails", False), ("INFO", "it works", False)]
