# SPDX-License-Identifier: GPL-3.0-or-later
"""Where evidence lies, when whoever handed it over means ill; and what part of it is asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.record.places import Reach, Unreadable, find_places
from gateway.record.reader import Evidence
from gateway.verify.findings import CannotCheck, Findings
from gateway.verify.run import Request, verify
from tests.verify.corpus import AT, Corpus

OBJECTS = {
    "readme": "evidence/README.json",
    "checkpoint": "evidence/log/gw1/0/checkpoint",
    "vkey": "evidence/log/gw1/0/node.vkey",
    "signed": "evidence/log/gw1/0/checkpoints/*",
    "entries": "evidence/log/gw1/0/tile/entries/000.p/*",
    "hashes": "evidence/log/gw1/0/tile/0/000.p/*",
    "segment": "evidence/seg/*/*/*",
    "policy": "evidence/policy/*",
    "wrap": "keys/*/*",
}


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(path: Path) -> None:
    target = path.rename(path.with_name("elsewhere"))
    path.symlink_to(target)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = Corpus(tmp_path / "data")
    made.policy(b"policy: 1\n")
    for number in range(2):
        one = made.session()
        made.segment(number, [(one, "open", b""), (one, "close", b"")])
        made.close(one)
    made.leaf("stop", sessions=2)
    made.write()
    assert verify(Request(str(made.data))).exit_code == 0
    return made


def asked(corpus: Corpus, **options: str) -> Findings:
    return verify(Request(str(corpus.data), **options))


@pytest.mark.parametrize("put", [a_pipe, a_folder, a_link])
@pytest.mark.parametrize("kind", OBJECTS)
def test_what_is_no_file_is_a_defect_and_nobody_waits_for_it(
    corpus: Corpus, kind: str, put: Callable[[Path], None]
) -> None:
    path = sorted(corpus.data.glob(OBJECTS[kind]))[0]
    put(path)
    findings = asked(corpus)
    name = path.relative_to(corpus.data).as_posix().removeprefix("evidence/")
    assert findings.exit_code == 1
    assert name in {one.object for one in findings.defects}


@pytest.mark.parametrize("put", [a_pipe, a_folder])
def test_readers_of_the_record_wait_for_no_pipe_either(
    corpus: Corpus, put: Callable[[Path], None]
) -> None:
    for kind in ("segment", "wrap", "readme", "entries"):
        put(sorted(corpus.data.glob(OBJECTS[kind]))[0])
    evidence = Evidence(corpus.root)
    # Of the two sessions one is left, which the other segment tells of.
    assert len([*evidence.nodes(), *evidence.sessions(), *evidence.grants()]) == 1


@pytest.mark.parametrize("keys", ["/", "/etc", "../..", "../../keys", "..", ".", "../a/b", "a\0b"])
def test_a_readme_names_no_other_folder_of_this_machine(corpus: Corpus, keys: str) -> None:
    readme = corpus.root / "README.json"
    readme.write_text(json.dumps({"format": 1, "keys": keys, "product": "trailgate"}))
    findings = asked(corpus)
    assert [(one.object, one.kind) for one in findings.defects] == [("README.json", "digest")]
    (place,) = find_places(corpus.root).keys
    assert place.shown == str(corpus.data / "keys")


def test_keys_may_lie_in_another_folder(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(corpus.data / "keys", tmp_path / "mine")
    assert {one.kind for one in asked(corpus).defects} == {"unreadable"}
    assert asked(corpus, keys=str(tmp_path / "mine")).exit_code == 0
    # As any other path of a command line, from where it is run.
    monkeypatch.chdir(tmp_path)
    assert asked(corpus, keys="mine").exit_code == 0
    (place,) = find_places(corpus.root, Reach("mine")).keys
    assert len(place.names("")) == 2


def test_a_folder_of_keys_that_is_not_there_is_no_defect(corpus: Corpus, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(CannotCheck, match="nowhere: no such folder"):
        asked(corpus, keys=nowhere)
    with pytest.raises(Unreadable, match="nowhere: no such folder"):
        find_places(corpus.root, Reach(nowhere))


def test_an_interval_holds_something(corpus: Corpus) -> None:
    with pytest.raises(CannotCheck, match="since 2026-11-25 and until 2026-11-24"):
        asked(corpus, since="2026-11-25", until="2026-11-24")
    assert asked(corpus, since=AT, until=AT).sessions == 2
    late, early = asked(corpus, since="2026-11-25"), asked(corpus, until="2026-11-24")
    assert (late.exit_code, early.exit_code) == (2, 2)
    assert "ends at 2026-11-24T12" in late.unresolved[0]
    assert "begins at 2026-11-24T12" in early.unresolved[0]


def test_the_start_of_a_sessions_id_is_enough(corpus: Corpus) -> None:
    (first, _) = sorted(path.name for path in (corpus.data / "keys").iterdir())
    assert asked(corpus, session=first).sessions == 1
    assert asked(corpus, session=first[:12]).sessions == 1
    assert asked(corpus, session=first[:12] + "0").exit_code == 2
