# SPDX-License-Identifier: GPL-3.0-or-later
"""A record whose proofs hold and whose content was never sealed as it should: the auditor's key
finds it, where public keys alone cannot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.verify.run import Request, verify
from tests.verify.corpus import Corpus, SessionWriter, sha

pytestmark = pytest.mark.fault


def closed(data: Path, spoil: Callable[[Corpus, SessionWriter], None]) -> Corpus:
    """A stopped log with one session; `spoil` is called between its wrap and its frames."""
    corpus = Corpus(data)
    session = corpus.session()
    spoil(corpus, session)
    steps = [(session, "open", b""), (session, "request", b"x" * 9000), (session, "close", b"")]
    corpus.segment(0, steps)
    corpus.close(session)
    corpus.leaf("stop", sessions=1)
    corpus.write()
    return corpus


def kinds(corpus: Corpus, opened: bool) -> list[str]:
    identity = corpus.identity_file() if opened else None
    return [one.kind for one in verify(Request(str(corpus.data), identity=identity)).defects]


def another_key(corpus: Corpus, session: SessionWriter) -> None:
    session.key = os.urandom(32)


def rewrap(
    corpus: Corpus, session: SessionWriter, change: Callable[[dict[str, str]], None]
) -> None:
    """Another wrap in the place of the session's, named by leaf and SHA-256 as it should be."""
    (old,) = (corpus.data / "keys" / session.id).iterdir()
    fields = json.loads(old.read_bytes())
    old.unlink()
    change(fields)
    wrap = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    corpus.put(corpus.data / "keys" / session.id / f"{sha(wrap)}.wrap", wrap)
    leaf = json.loads(corpus.leaves[-2])
    leaf["wraps"][0]["sha256"] = sha(wrap)
    corpus.leaves[-2] = json.dumps(leaf, sort_keys=True, separators=(",", ":")).encode()


def garbage(corpus: Corpus, session: SessionWriter) -> None:
    rewrap(corpus, session, lambda wrap: wrap.update(wrapped="AAAA" * 30))


def of_another_session(corpus: Corpus, session: SessionWriter) -> None:
    other = Corpus(corpus.data.parent / "other")
    other.identity = corpus.identity
    theirs = other.session()
    (wrap,) = (other.data / "keys" / theirs.id).iterdir()
    wrapped = json.loads(wrap.read_bytes())["wrapped"]
    session.key = theirs.key
    rewrap(corpus, session, lambda fields: fields.update(wrapped=wrapped))


SPOILT = {
    "payloads under another key": (another_key, "sealed"),
    "a wrap of garbage": (garbage, "unreadable"),
    "a wrap made for another session": (of_another_session, "unreadable"),
}


@pytest.mark.parametrize(("spoil", "kind"), SPOILT.values(), ids=SPOILT)
def test_what_does_not_open_is_a_defect_to_who_holds_the_key(
    tmp_path: Path, spoil: Callable[[Corpus, SessionWriter], None], kind: str
) -> None:
    corpus = closed(tmp_path / "data", spoil)
    assert kinds(corpus, opened=False) == []
    assert kinds(corpus, opened=True) == [kind]


def test_what_opens_is_none(tmp_path: Path) -> None:
    corpus = closed(tmp_path / "data", lambda corpus, session: None)
    assert kinds(corpus, opened=True) == []
