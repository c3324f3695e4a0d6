# SPDX-License-Identifier: GPL-3.0-or-later
"""A recorded corpus with everything in it, and mutants of its files."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from gateway.admin.cli.node.root import Root
from gateway.record.declared import Hold, Retention
from gateway.record.recipients import make_recipient
from gateway.record.recorder import NodeRecorder
from gateway.verify.certificate import open_request
from gateway.verify.findings import Findings
from gateway.verify.run import Request, verify
from tests.faults.auditor import Auditor
from tests.faults.test_erasing import erase
from tests.record.place import Place

KINDS = ("flip", "zero", "truncate", "append", "drop", "cut", "double", "swap", "duplicate")
_PARTIAL = re.compile(r"/tile/[^/]+/[x0-9/]+\.p/(\d+)$")
_COPY = re.compile(r"/checkpoints/(\d+)$")
_COSIGNED = re.compile(r"/cosigned/\d+$")


class Corpus:
    """`evidence/` and `keys/` of a node that started twice, and what its auditor knows."""

    def __init__(self, root: Path, auditor: Auditor, identity: Path) -> None:
        self.root = root
        self.auditor = auditor
        self.identity = identity
        self.files = sorted(path for path in root.rglob("*") if path.is_file())

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def verify(self, opened: bool = True) -> Findings:
        identity = self.identity if opened else None
        path = str(self.root / "evidence")
        return verify(Request(path, trust=self.auditor.folder, identity=identity))


async def recorded(root: Path) -> Corpus:
    """Two starts, recipients of every kind, both compressions, an erased session, a hold, a
    retention, a policy, a witness, a certificate, a rotation."""
    place = Place(root)
    recipients = [place.recipient()]
    for kind in ("p256", "mlkem768-x25519", "age"):
        recipients.append(make_recipient(root / kind, kind))
    auditor: Auditor | None = None
    for compression in ("lz4", "zstd"):
        options = replace(
            place.options(compression=compression, progress_seconds=0.0),
            recipients=tuple(recipients),
        )
        recorder = await NodeRecorder.start(options)
        await recorder.policy_in_force("p", f"policy: {compression}\n".encode())
        await recorder.keeping.put_in_force(
            {"case": Hold("case", ("stock",))}, Retention("default", 400, 90)
        )
        await _sessions(recorder)
        if auditor is None:
            auditor = Auditor(root, place)
            auditor.serve()
        await recorder.stop()
        await auditor.cosign(place)
        _new_key(root, place)
    copy = root / "copy"
    for name in ("evidence", "keys"):
        shutil.copytree(place.data / name, copy / name)
    assert auditor is not None
    return Corpus(copy, auditor, place.auditor / "identity")


def _new_key(root: Path, place: Place) -> None:
    """For the next start: a certificate of the node's key, and then another key."""
    node = place.data / "node"
    key, _ = open_request((node / "request").read_bytes())
    path = root / "root.key"
    made = Root.load(path) if path.exists() else Root.make(path, "root.example.com")
    note = made.certify(key, "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z")
    (node / "incoming").mkdir(exist_ok=True)
    (node / "incoming" / sha256(note).hexdigest()).write_bytes(note)
    (node / "rotate").touch()


async def _sessions(recorder: NodeRecorder) -> None:
    first = await recorder.open({"target": "orders"})
    second = await recorder.open({"target": "stock"})
    for session in (first, second):
        session.append("request", "client", b"select 1", b'{"at":0,"events":[]}', 1)
        session.append("answer", "target", b"row " * 3000, b'{"at":0,"events":[]}', 1)
        session.append("event", "own", b"", b'{"events":[]}')
        await session.close("client", {})
    await erase(recorder, first.id)


@dataclass(frozen=True)
class Mutant:
    """One change of one file (or two)."""

    kind: str
    name: str
    at: int = 0
    size: int = 0
    other: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name} at {self.at}, {self.size} bytes, {self.other}"

    @contextmanager
    def applied(self, root: Path) -> Iterator[None]:
        """The change, and back again."""
        path = root / self.name
        before = path.read_bytes()
        others = {root / self.other: None} if self.other else {}
        kept = {one: one.read_bytes() if one.exists() else None for one in others}
        try:
            self._change(path, before, root)
            yield
        finally:
            path.write_bytes(before)
            for one, data in kept.items():
                one.unlink() if data is None else one.write_bytes(data)

    def _change(self, path: Path, before: bytes, root: Path) -> None:
        at, end = self.at, self.at + self.size
        flipped = bytes([before[at] ^ self.size & 0xFF]) if before else b""
        changed = {
            "flip": before[:at] + flipped + before[at + 1 :],
            "zero": before[:at] + bytes(len(before[at:end])) + before[end:],
            "truncate": before[:at],
            "append": before + os.urandom(self.size),
            "cut": before[:at] + before[end:],
            "double": before[:end] + before[at:end] + before[end:],
        }
        if self.kind == "drop":
            path.unlink()
        elif self.kind == "duplicate":
            (root / self.other).write_bytes(before)
        elif self.kind == "swap":
            path.write_bytes((root / self.other).read_bytes())
            (root / self.other).write_bytes(before)
        else:
            path.write_bytes(changed[self.kind])


def every_file(corpus: Corpus, dice: random.Random) -> Iterator[Mutant]:
    """Each way of changing each file, once."""
    for path in corpus.files:
        for kind in KINDS:
            if (mutant := a_mutant(corpus, path, kind, dice)) is not None:
                yield mutant


def at_random(corpus: Corpus, dice: random.Random, count: int) -> Iterator[Mutant]:
    """Any file, any way; files of many bytes as often as those of few."""
    while count:
        path, kind = dice.choice(corpus.files), dice.choice(KINDS)
        if (mutant := a_mutant(corpus, path, kind, dice)) is not None:
            count -= 1
            yield mutant


def a_mutant(corpus: Corpus, path: Path, kind: str, dice: random.Random) -> Mutant | None:
    """None where that changes nothing."""
    data, name = path.read_bytes(), corpus.name(path)
    if not data and kind != "append":
        return None
    at = dice.randrange(len(data)) if data else 0
    size = dice.randint(1, max(1, min(64, len(data) - at)))
    if kind == "flip":
        return Mutant(kind, name, at, 1 << dice.randrange(8))
    if kind == "zero":
        return Mutant(kind, name, at, size) if any(data[at : at + size]) else None
    if kind == "double" and data[at : at + size] * 2 == data[at : at + 2 * size]:
        size = max(1, len(data) - at)
    if kind in ("swap", "duplicate"):
        other = _other(corpus, path, kind, dice)
        return None if other is None else Mutant(kind, name, 0, 0, other)
    return Mutant(kind, name, at, size)


def _other(corpus: Corpus, path: Path, kind: str, dice: random.Random) -> str | None:
    """A file to change places with, or a name that the same bytes could have as well."""
    if kind == "duplicate":
        digits = "0123456789abcdef"
        turned = "".join(digits[15 - digits.index(c)] if c in digits else c for c in path.name)
        twin = path.with_name(turned if turned != path.name else path.name + "0")
        return None if twin.exists() else corpus.name(twin)
    alike = [one for one in corpus.files if one.parent == path.parent and one != path]
    among = alike or [one for one in corpus.files if one != path]
    chosen = dice.choice(among)
    return None if chosen.read_bytes() == path.read_bytes() else corpus.name(chosen)


def may_be_gone(corpus: Corpus, mutant: Mutant) -> bool:
    """What the format lets a writer remove, and what says nothing that is not said elsewhere: a
    partial tile or the copy of an older checkpoint, a cosignature that the witness has too."""
    if mutant.kind != "drop":
        return False
    if _COSIGNED.search(mutant.name):
        return True
    pattern = next((one for one in (_PARTIAL, _COPY) if one.search(mutant.name)), None)
    if pattern is None:
        return False
    siblings = [corpus.name(one) for one in corpus.files]
    stem = mutant.name.rpartition("/")[0] + "/"
    numbers = [int(found[1]) for one in siblings if one.startswith(stem)
               and (found := pattern.search(one))]  # fmt: skip
    return int(mutant.name.rpartition("/")[2]) < max(numbers)


def survivors(corpus: Corpus, mutants: Iterable[Mutant]) -> tuple[int, list[str]]:
    """(mutants that were tried, those that nobody noticed)."""
    sound = corpus.verify()
    assert (sound.defects, sound.unresolved, sound.content) == ([], [], "opened")
    assert len(sound.erased) == 2 and sound.witnessed_to == sound.complete_to
    tried, left = 0, []
    for mutant in mutants:
        tried += 1
        with mutant.applied(corpus.root):
            findings = corpus.verify()
        if may_be_gone(corpus, mutant):
            # Nothing may be said less surely than before.
            same = (findings.exit_code, findings.complete_to, findings.witnessed_to)
            if findings.exit_code == 0 and same != (0, sound.complete_to, sound.witnessed_to):
                left.append(f"{mutant}: {same}")
        elif findings.exit_code != 1:
            left.append(f"{mutant}: {findings.exit_code} {findings.unresolved}")
    assert corpus.verify().document() == sound.document(), "a mutant was not taken back"
    return tried, left
