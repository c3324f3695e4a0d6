# SPDX-License-Identifier: GPL-3.0-or-later
"""What is gone because its retention is over is told apart from what is missing."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.verify.run import Request, verify
from tests.verify.corpus import AT, Corpus

FIRST, SECOND = 0, 1


def later(days: int) -> str:
    moment = datetime.fromisoformat(AT) + timedelta(days=days)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def old(data: Path, days: int, declared_before: bool = True) -> tuple[Corpus, list[str]]:
    """Two sessions, the first over both segments, in a log that ended `days` later."""
    corpus = Corpus(data)

    def declare() -> None:
        corpus.leaf("retention", name="default", sessions=30, keys=10)

    if declared_before:
        declare()
    one = corpus.session()
    corpus.segment(0, [(one, "open", b""), (one, "request", b"select 1")])
    two = corpus.session()
    corpus.segment(1, [(two, "open", b""), (one, "close", b""), (two, "close", b"")])
    corpus.close(one)
    corpus.close(two)
    if not declared_before:
        declare()
    corpus.leaf("heartbeat", at=later(days))
    corpus.leaf("stop", sessions=2, at=later(days))
    corpus.write()
    return corpus, [one.id, two.id]


def segments(corpus: Corpus) -> list[Path]:
    return sorted(corpus.root.glob("seg/*/*/*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("days", [9, 11])
def test_keys_outlive_their_period_or_are_missing(tmp_path: Path, days: int) -> None:
    corpus, sessions = old(tmp_path, days)
    shutil.rmtree(corpus.data / "keys" / sessions[0])
    findings = verify(Request(str(corpus.data), identity=corpus.identity_file()))
    if days > 10:
        assert (findings.defects, findings.expired) == ([], [sessions[0]])
        assert findings.unresolved == []
    else:
        assert {one.kind for one in findings.defects} == {"unreadable"}
        assert findings.expired == []


@pytest.mark.parametrize("days", [29, 31])
def test_a_segment_outlives_its_period_or_is_missing(tmp_path: Path, days: int) -> None:
    corpus, sessions = old(tmp_path, days)
    gone = segments(corpus)[FIRST]
    gone.unlink()
    findings = verify(Request(str(corpus.data)))
    name = gone.relative_to(corpus.root).as_posix()
    if days > 30:
        assert findings.defects == []
        assert sorted(findings.expired) == sorted([sessions[0], name])
        assert findings.sessions == 1
    else:
        assert [(one.object, one.kind) for one in findings.defects][0] == (name, "missing")


def test_a_period_that_was_declared_afterwards_excuses_nothing(tmp_path: Path) -> None:
    corpus, sessions = old(tmp_path, 100, declared_before=False)
    shutil.rmtree(corpus.data / "keys" / sessions[0])
    segments(corpus)[SECOND].unlink()
    found = {one.kind for one in verify(Request(str(corpus.data))).defects}
    assert found >= {"unreadable", "missing"}


def test_a_session_whose_frames_do_not_come_is_a_defect_after_a_quarter_of_an_hour(
    tmp_path: Path,
) -> None:
    for minutes, expected in ((14, set[str]()), (16, {"unshipped"})):
        corpus = Corpus(tmp_path / str(minutes))
        one = corpus.session()
        corpus.segment(0, [(one, "open", b"")])
        corpus.file(1, [(one, "close", b"", b"{}")])
        corpus.close(one)
        moment = datetime.fromisoformat(AT) + timedelta(minutes=minutes)
        corpus.leaf("heartbeat", at=moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        corpus.write()
        findings = verify(Request(str(corpus.data)))
        assert {defect.kind for defect in findings.defects} == expected
        assert len(findings.pending) == (0 if expected else 1)
