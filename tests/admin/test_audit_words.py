# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of the record say: numbers with their words, and cures that fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root
from gateway.verify.report import counted
from tests.faults.auditor import day
from tests.record.place import Place
from tests.record.recorded_story import Story

ONE_OF_MANY = re.compile(r"\b1 (?:closed |more )?(?:logs|sessions|rows|files|entries|records)\b")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(root, [str(one) for one in arguments])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_one_and_many() -> None:
    assert [counted(number, "log") for number in (0, 1, 2)] == ["0 logs", "1 log", "2 logs"]


async def test_no_command_speaks_of_one_things(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await day(place)
    told = run("verify", place.data).stdout
    assert "checked: 1 log, 2 closed sessions, 0 closed records of grants" in told
    lake = run("audit", "rebuild-lake", "--data", place.data, "--to", tmp_path / "lake").stdout
    for words in (told, lake):
        assert not ONE_OF_MANY.search(words), words


async def test_nothing_found_says_how_far_that_is_proved(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await day(place)
    assert run("audit", "rebuild-lake", "--data", place.data, "--to", tmp_path / "l").exit_code == 0
    for where in (("--data", place.data), ("--lake", tmp_path / "l")):
        told = run("audit", "who", "--table", "customers", *where).stdout
        assert re.fullmatch(r"nothing\nproved to 20\S+Z\n", told), told
    assert "proved to" in run("audit", "violations", "--data", place.data).stdout


@pytest.mark.parametrize(
    ("arguments", "cause", "cure"),
    [
        (("verify", "absent"), "no such folder", "s3://BUCKET/PREFIX"),
        (("verify", "."), "no log lies here", "README.json"),
        (("verify",), "what is to be checked", "--proof FILE"),
        (("verify", ".", "--trust", "absent"), "the trust file absent", "--trust"),
        (("verify", "--proof", "absent"), "absent: No such file", "--format tlog-proof"),
        (("verify", ".", "--since", "soon"), "'soon' is no time", "write 2026-"),
    ],
)
def test_what_cannot_be_checked_has_a_cure(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    cause: str,
    cure: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("cannot check: ") and cause in first
    assert second.startswith("  next: ") and cure in second


def test_a_key_of_somebody_else_is_told_apart_from_no_key(tmp_path: Path) -> None:
    story = Story(tmp_path / "data").shipped()
    none = run("audit", "replay", story.reader.id, "--data", story.data)
    assert "no key was named" in none.stderr and "next: name the auditor's" in none.stderr
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    other.recipient()
    wrong = run("audit", "replay", story.reader.id, "--data", story.data,
                "--identity", other.auditor / "identity")  # fmt: skip
    assert "sealed to others" in wrong.stderr and "next: another --identity" in wrong.stderr
