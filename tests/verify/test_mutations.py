# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is changed in the evidence, the verifier says so and names the object."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.verify.run import Request, verify
from tests.verify.corpus import Corpus, dump, sha, whole


def objects(data: Path) -> dict[str, Path]:
    """What the verifier calls each file."""
    found = {p.relative_to(data / "evidence").as_posix(): p for p in data.glob("evidence/**/*")}
    found |= {p.relative_to(data).as_posix(): p for p in data.glob("keys/**/*")}
    return {name: path for name, path in found.items() if path.is_file()}


def named(data: Path, **options: object) -> set[str]:
    findings = verify(Request(str(data), **options))  # type: ignore[arg-type]
    return {defect.object for defect in findings.defects}


def test_whole_evidence_is_sound(tmp_path: Path) -> None:
    corpus = whole(tmp_path, leaves=600)
    findings = verify(Request(str(tmp_path)))
    assert findings.defects == []
    assert findings.exit_code == 0
    assert (findings.logs, findings.sessions, findings.frames) == (1, 2, 6)
    opened = verify(Request(str(tmp_path), identity=corpus.identity_file()))
    assert (opened.defects, opened.content, opened.exit_code) == ([], "opened", 0)


@pytest.mark.parametrize("leaves", [0, 600])
def test_one_flipped_byte_anywhere_is_found_and_named(tmp_path: Path, leaves: int) -> None:
    whole(tmp_path, leaves=leaves)
    tried = 0
    for name, path in objects(tmp_path).items():
        data = path.read_bytes()
        step = max(1, len(data) // (150 if leaves == 0 else 6))
        for at in range(0, len(data), step):
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
            assert name in named(tmp_path), f"{name}, byte {at}"
            tried += 1
        path.write_bytes(data)
    assert tried > 100
    assert named(tmp_path) == set()


def test_a_dropped_cut_or_lengthened_object_is_named(tmp_path: Path) -> None:
    whole(tmp_path)
    latest = max(int(p.name) for p in tmp_path.glob("evidence/log/*/*/checkpoints/*"))
    for name, path in objects(tmp_path).items():
        data = path.read_bytes()
        for changed in (data[:-1], b"", data + b"\n", data + data):
            path.write_bytes(changed)
            assert name in named(tmp_path), name
        path.unlink()
        # Earlier checkpoints and partial tiles may be gone: what follows them holds them all.
        is_old = name.startswith("log/") and name.rpartition("/")[2] not in (
            str(latest), "checkpoint", "node.vkey")  # fmt: skip
        assert is_old or name in named(tmp_path), name
        path.write_bytes(data)
    assert named(tmp_path) == set()


def test_swapped_objects_are_named(tmp_path: Path) -> None:
    whole(tmp_path)
    one, two = sorted(tmp_path.glob("evidence/seg/*/*/*"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert {one.name, two.name} <= {name.rpartition("/")[2] for name in named(tmp_path)}


def test_a_stray_file_is_named(tmp_path: Path) -> None:
    whole(tmp_path)
    for name in ("evidence/x", f"evidence/policy/{sha(b'')}", "evidence/log/gw1/0/tile/0/001",
                 f"keys/{'a' * 26}/{sha(b'')}.wrap"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        assert named(tmp_path) == {name.removeprefix("evidence/")}
        path.unlink()


def test_an_older_checkpoint_put_back_is_named(tmp_path: Path) -> None:
    corpus = whole(tmp_path)
    sizes = sorted(int(p.name) for p in (corpus.log / "checkpoints").iterdir())
    shutil.copy(corpus.log / "checkpoints" / str(sizes[0]), corpus.log / "checkpoint")
    assert "log/gw1/0/checkpoint" in named(tmp_path)


def test_a_rewritten_record_fails_against_the_trust_file(tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    trust.write_text(whole(tmp_path / "honest").vkey + "\n")
    whole(tmp_path / "forged")
    assert named(tmp_path / "honest", trust=trust) == set()
    assert named(tmp_path / "forged") == set()
    assert "log/gw1/0/node.vkey" in named(tmp_path / "forged", trust=trust)


def kinds(corpus: Corpus) -> set[str]:
    corpus.leaf("stop", sessions=1)
    corpus.write()
    return {defect.kind for defect in verify(Request(str(corpus.data))).defects}


def test_a_session_left_out_breaks_the_ordinals(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.opened = 1
    one = corpus.session()
    corpus.segment(0, [(one, "open", b""), (one, "close", b"")])
    corpus.close(one)
    assert kinds(corpus) == {"ordinal"}


def test_a_frame_left_out_is_missed(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    one = corpus.session()
    corpus.segment(0, [(one, "open", b"")])
    one.leaves.append(b"a frame that no segment has")
    corpus.segment(1, [(one, "close", b"")])
    corpus.close(one)
    assert kinds(corpus) == {"missing_frames"}


def test_a_frame_behind_the_close_frame_is_refused(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    one = corpus.session()
    corpus.segment(0, [(one, "open", b""), (one, "close", b""), (one, "answer", b"more")])
    corpus.close(one)
    assert "order" in kinds(corpus)


def test_a_session_never_closed_is_a_defect_only_once_the_log_was_stopped(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    one = corpus.session()
    corpus.segment(0, [(one, "open", b"")])
    corpus.write()
    live = verify(Request(str(tmp_path)))
    assert (live.defects, live.open, live.exit_code) == ([], [one.id], 0)
    assert kinds(corpus) == {"session"}


def test_frames_not_shipped_yet_are_pending(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    one = corpus.session()
    corpus.segment(0, [(one, "open", b"")])
    one.leaves.append(b"still in the journal")
    corpus.close(one)
    corpus.write()
    live = verify(Request(str(tmp_path)))
    assert (live.defects, live.pending) == ([], [{"session": one.id, "frames": 1}])
    assert kinds(corpus) == {"missing_frames"}


def test_only_one_session_can_be_asked_for(tmp_path: Path) -> None:
    whole(tmp_path)
    one = next(tmp_path.glob("keys/*")).name
    found = verify(Request(str(tmp_path), session=one))
    assert (found.exit_code, found.sessions) == (0, 1)
    assert verify(Request(str(tmp_path), session="a" * 26)).exit_code == 2


def test_a_leaf_that_is_not_canonical_is_refused(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.leaves.append(dump({"type": "stop", "at": "2026-11-24T12:00:00.000000Z"})[:-1] + b" }")
    corpus.write()
    assert "leaf" in {defect.kind for defect in verify(Request(str(tmp_path))).defects}
