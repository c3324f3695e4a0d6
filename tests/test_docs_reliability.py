# SPDX-License-Identifier: GPL-3.0-or-later
"""Every test that docs/reliability.md names is there, and every fault test is named."""

from __future__ import annotations

import re

from tests.pages import ROOT, tables, words

PAGE = ROOT / "docs" / "reliability.md"
ALL_NAMED = ("test_s3_faults", "test_erasing", "test_best_effort", "test_two_writers", "test_clock")
LEFT_OUT = {
    "test_what_may_not_be_erased": "words of refusals",
}


def named() -> list[tuple[str, str]]:
    rows = [row for table in tables(PAGE) for row in table.rows]
    assert rows and all(len(row) == 3 for row in rows)
    found = []
    for row in rows:
        (test,) = [one for one in words(row[2])]
        path, _, name = test.partition("::")
        found.append((path, name))
    return found


def test_every_test_that_is_named_is_there() -> None:
    for path, name in named():
        source = ROOT / path
        assert source.is_file(), path
        assert re.search(rf"^(?:async )?def {name}\(", source.read_text("utf-8"), re.M), name


def test_no_test_is_named_twice() -> None:
    assert len(named()) == len(set(named()))


def test_every_test_of_these_files_is_named() -> None:
    told = {name for _, name in named()} | set(LEFT_OUT)
    for stem in ALL_NAMED:
        source = (ROOT / "tests" / "faults" / f"{stem}.py").read_text("utf-8")
        tests = set(re.findall(r"^(?:async )?def (test_\w+)\(", source, re.M))
        assert tests and tests <= told, tests - told
