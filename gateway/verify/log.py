# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's log: key, checkpoints, tiles and leaves, all checked against each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

from gateway.verify.cosigned import Cosigned, open_cosigned, origin_of
from gateway.verify.findings import Defect
from gateway.verify.history import Contradiction, History
from gateway.verify.keychain import ROTATED, KeyChain, follow
from gateway.verify.leaves import LeafError, canonical, parse_leaf
from gateway.verify.note import (
    Checkpoint,
    NoteError,
    VerifierKey,
    open_checkpoint,
    own_checkpoint,
    parse_note,
)
from gateway.verify.source import Missing, Source
from gateway.verify.tiles import (
    MOST_BUNDLE,
    WIDTH,
    BadBundle,
    TileChecker,
    TileName,
    split_bundle,
)
from gateway.verify.trust import Trust

MOST_NOTE = 65536
_SHOWN = "shown"


@dataclass(slots=True)
class LogReading:
    """What one pass over a log gave."""

    path: str
    history: History
    size: int = 0
    sound: bool = False
    """Every leaf up to `size` was read, and the signed root holds them."""
    head: bytes = b""
    known: set[str] = field(default_factory=set)
    beyond: set[str] = field(default_factory=set)
    """Tiles that no checkpoint reaches yet."""
    behind: str = ""
    """What a writer that was cut off between two files left behind, if anything."""
    defects: list[Defect] = field(default_factory=list)
    signed: dict[int, Checkpoint] = field(default_factory=dict)
    """Every checkpoint that lies in the log, by its size."""
    cosigned: list[Cosigned] = field(default_factory=list)
    times: dict[int, str] = field(default_factory=dict)
    """What its last leaf has as time, for each size that was signed."""
    forks: list[str] = field(default_factory=list)
    """How this log contradicts what somebody else was shown."""
    ahead: int = 0
    """The largest size that somebody else was shown, if it is more than is here."""
    chain: KeyChain | None = None
    """The keys of the log; None where it has none."""
    cited: int = -1
    """How many leaves the log that goes on for this one says it had; -1: there is none."""

    def defect(self, name: str, kind: str, detail: str) -> None:
        self.defects.append(Defect(name, kind, detail))


class LogReader:
    """Reads `log/<node>/<n>`."""

    def __init__(
        self,
        source: Source,
        path: str,
        names: list[str],
        trust: Trust | None,
        shown: Sequence[bytes] = (),
    ) -> None:
        _, node, number = path.split("/")
        self._source = source
        self._names = names
        self._trust = trust
        self._shown = [note for note in shown if origin_of(note) == f"trailgate/{node}/{number}"]
        self._path = path
        self._origin = f"trailgate/{node}/{number}"
        self._older: Checkpoint | None = None
        self._more: list[tuple[str, Checkpoint]] = []
        self._chain: KeyChain
        self._copy = ""
        self._out = LogReading(path, History(node, int(number), ""))

    def read(self) -> LogReading:
        out = self._out
        key = self._key()
        if key is None:
            return out
        out.history.vkey = key.text()
        out.chain = self._chain = self._keys(key)
        latest, roots = self._checkpoints()
        out.signed = roots if latest is None else {**roots, latest.size: latest}
        self._cosigned(latest.size if latest else 0)
        self._was_shown(latest.size if latest else 0)
        if latest is not None:
            out.size = latest.size
            self._leaves(latest, roots)
            if self._copy and out.history.stopped:
                self._get(self._copy, MOST_NOTE)
            self._rotated(latest.size)
            self._certified()
        if out.behind and (out.history.stopped or not out.sound):
            out.defect(out.behind, "stale", f"is older than a checkpoint of size {out.size}")
            out.behind = ""
        return out

    def _get(self, name: str, most: int) -> bytes | None:
        """An object that must be there; None (and a defect) when it is not."""
        self._out.known.add(name)
        try:
            return self._source.read(name, most)
        except Missing:
            self._out.defect(name, "missing", "is missing")
        except ValueError as error:
            self._out.defect(name, "format", str(error))
        return None

    def _key(self) -> VerifierKey | None:
        name = f"{self._path}/node.vkey"
        data = self._get(name, MOST_NOTE)
        if data is None:
            return None
        try:
            key = VerifierKey.parse(data.decode("utf-8", "replace").removesuffix("\n"))
        except NoteError as error:
            self._out.defect(name, "key", str(error))
            return None
        if data != key.text().encode() + b"\n" or key.name != self._origin:
            self._out.defect(name, "key", f"is not the one line of a key named {self._origin}")
            return None
        return key

    def _keys(self, first: VerifierKey) -> KeyChain:
        """The first key, and those that it was rotated to."""
        rotated: dict[int, bytes] = {}
        for name in self._below(ROTATED):
            number = name.removeprefix(f"{self._path}/{ROTATED}")
            data = self._get(name, MOST_NOTE)
            if data is None or not re.fullmatch(r"[1-9]\d{0,17}", number):
                self._out.defect(name, "rotation", "is no leaf's number")
            else:
                rotated[int(number)] = data
        chain, broken, why = follow(first, rotated)
        if why:
            self._out.defect(f"{self._path}/{ROTATED}{broken}", "rotation", why)
        if self._trust is not None and not self._is_trusted(chain):
            name = f"{self._path}/node.vkey"
            self._out.defect(name, "untrusted", "is not the key that the trust file names for it")
        return chain

    def _is_trusted(self, chain: KeyChain) -> bool:
        """Whether one of the log's keys is named; what a root certifies is judged later."""
        assert self._trust is not None
        named = self._trust.keys.get(self._origin)
        if named is None:
            return bool(self._trust.roots)
        return any(key in chain.keys for key in named)

    def _rotated(self, size: int) -> None:
        """Compare the rotations beside the log with its leaves."""
        out, leaves = self._out, self._out.history.rotations
        for index, data in self._chain.leaves.items():
            name = f"{self._path}/{ROTATED}{index}"
            if index >= size and not out.history.stopped:
                continue
            if index not in leaves or canonical(leaves[index]) != data:
                out.defect(name, "rotation", f"is not what leaf {index} of the log says")
        for index in sorted(leaves.keys() - self._chain.leaves.keys()):
            out.defect(f"{self._path}/{ROTATED}{index}", "missing", "is missing: its leaf is there")

    def _certified(self) -> None:
        """The certificates beside the log are those of its leaves, named by their SHA-256."""
        out, folder = self._out, f"{self._path}/certificates/"
        leaves = {sha256(note.encode()).hexdigest(): note for note in out.history.certificates}
        found = {name.removeprefix(folder) for name in self._below("certificates/")}
        for digest in sorted(found | leaves.keys()):
            data = self._get(folder + digest, MOST_NOTE)
            if data is None:
                continue
            if sha256(data).hexdigest() != digest:
                out.defect(folder + digest, "digest", "has another SHA-256 than its name says")
            elif digest not in leaves and out.history.stopped:
                out.defect(folder + digest, "stray", "does not belong here: no leaf names it")

    def _below(self, folder: str) -> list[str]:
        start = f"{self._path}/{folder}"
        return [name for name in self._names if name.startswith(start)]

    # Checkpoints

    def _checkpoints(self) -> tuple[Checkpoint | None, dict[int, Checkpoint]]:
        out, folder = self._out, f"{self._path}/checkpoints/"
        signed: dict[int, Checkpoint] = {}
        bodies: dict[int, bytes] = {}
        for name in (name for name in self._names if name.startswith(folder)):
            checkpoint, body = self._checkpoint(name)
            if checkpoint is None:
                continue
            if str(checkpoint.size) != name.removeprefix(folder):
                out.defect(name, "checkpoint", f"is of size {checkpoint.size}, not of its name's")
            signed[checkpoint.size], bodies[checkpoint.size] = checkpoint, body
        latest, out.head = self._checkpoint(f"{self._path}/checkpoint")
        if latest is not None:
            self._compare_latest(latest, bodies)
        # The newest that was signed counts, whatever `checkpoint` says.
        if signed and (latest is None or latest.size < max(signed)):
            latest = signed[max(signed)]
        return latest, signed

    def _checkpoint(self, name: str) -> tuple[Checkpoint | None, bytes]:
        data = self._get(name, MOST_NOTE)
        if data is None:
            return None, b""
        try:
            return open_checkpoint(data, self._chain.of_note(data)), data
        except NoteError as error:
            self._out.defect(name, "checkpoint", str(error))
        return None, data

    def _compare_latest(self, latest: Checkpoint, bodies: dict[int, bytes]) -> None:
        out, name = self._out, f"{self._path}/checkpoint"
        copy = f"{self._path}/checkpoints/{latest.size}"
        if latest.size < max(bodies, default=0):
            # The copy is put first: a kill leaves this in a log that was not stopped.
            out.behind = name
            self._older = latest
        elif copy not in self._names:
            # A live writer keeps one a minute; the last one of a log that was stopped is kept.
            self._copy = copy
        elif latest.size in bodies and bodies[latest.size] != out.head:
            out.defect(name, "checkpoint", f"differs from {copy}: two signed heads of one size")

    def _cosigned(self, size: int) -> None:
        out, folder = self._out, f"{self._path}/cosigned/"
        for name in (name for name in self._names if name.startswith(folder)):
            data = self._get(name, MOST_NOTE)
            if data is None:
                continue
            try:
                cosigned = open_cosigned(data, self._chain.of_note(data), self._trust)
            except NoteError as error:
                out.defect(name, "cosignature", str(error))
                continue
            named = name.removeprefix(folder)
            if str(cosigned.checkpoint.size) != named:
                out.defect(name, "cosignature", "is of another size than its name's")
            elif cosigned.checkpoint.size > size:
                out.defect(name, "cut", f"is of more leaves than the {size} that are here")
            else:
                out.cosigned.append(cosigned)
                self._more.append((f"cosigned/{named}", cosigned.checkpoint))

    def _was_shown(self, size: int) -> None:
        out = self._out
        for data in self._shown:
            key = self._chain.of_note(data)
            try:
                checkpoint = own_checkpoint(parse_note(data), key)
            except NoteError as error:
                out.forks.append(f"somebody else was shown a checkpoint that {error}")
                continue
            if checkpoint.size > size:
                out.ahead = max(out.ahead, checkpoint.size)
                continue
            self._more.append((_SHOWN, checkpoint))
            if self._trust is not None and data in self._trust.seen:
                # What the witness keeps is cosigned, whether or not the evidence has that too.
                with suppress(NoteError):
                    out.cosigned.append(open_cosigned(data, key, self._trust))

    # Entries

    def _leaves(self, latest: Checkpoint, signed: dict[int, Checkpoint]) -> None:
        size = latest.size
        tiles = self._tiles(size)
        checker = TileChecker(self._source, self._path, tiles, size)
        wanted = {size: [("checkpoint", latest)]}
        if self._older is not None:
            wanted.setdefault(self._older.size, []).append(("checkpoint", self._older))
        for other in signed.values():
            name = f"checkpoints/{other.size}"
            if other.size <= size:
                wanted.setdefault(other.size, []).append((name, other))
        for name, more in self._more:
            wanted.setdefault(more.size, []).append((name, more))
        wrong: list[tuple[str, Checkpoint]] = []
        for index in range(-(-size // WIDTH)):
            if not self._bundle(index, min(WIDTH, size - index * WIDTH), checker, wanted, wrong):
                return
        if 0 in wanted:
            wrong += [item for item in wanted[0] if size and item[1].root != checker.root()]
        checker.finish()
        self._blame(checker, wrong, latest)

    def _tiles(self, size: int) -> list[TileName]:
        out, tiles = self._out, []
        start = len(self._path) + 1
        for name in self._names:
            tile = TileName.parse(name[start:])
            if tile is None:
                continue
            tiles.append(tile)
            (out.known if tile.within(size) else out.beyond).add(name)
        return tiles

    def _bundle(
        self,
        index: int,
        count: int,
        checker: TileChecker,
        wanted: dict[int, list[tuple[str, Checkpoint]]],
        wrong: list[tuple[str, Checkpoint]],
    ) -> bool:
        name = f"{self._path}/{TileName(-1, index, count).path()}"
        data = self._get(name, MOST_BUNDLE)
        if data is None:
            return False
        try:
            leaves = split_bundle(data, count)
        except BadBundle as error:
            self._out.defect(name, "format", str(error))
            return False
        checker.bundle(index, data, leaves)
        for leaf in leaves:
            self._leaf(name, checker.count, leaf)
            checker.leaf(leaf)
            if checker.count in wanted:
                self._out.times[checker.count] = self._out.history.last_at
            for item in wanted.get(checker.count, ()):
                if item[1].root != checker.root():
                    wrong.append(item)
        return True

    def _leaf(self, name: str, index: int, leaf: bytes) -> None:
        try:
            self._out.history.take(index, parse_leaf(leaf))
        except LeafError as error:
            self._out.defect(name, "leaf", f"leaf {index} {error}")
        except Contradiction as error:
            self._out.defect(name, error.kind, f"leaf {index}: {error}")

    def _blame(
        self, checker: TileChecker, wrong: list[tuple[str, Checkpoint]], latest: Checkpoint
    ) -> None:
        """Entries that give the signed root are right, so tiles that differ are wrong; entries
        that do not are wrong where they differ from the tiles."""
        out = self._out
        shown = sorted({checkpoint.size for name, checkpoint in wrong if name == _SHOWN})
        out.forks += [f"somebody else was shown another history of {size} leaves" for size in shown]
        wrong = [item for item in wrong if item[0] != _SHOWN]
        if all(checkpoint is not latest for _, checkpoint in wrong):
            out.sound = True
            for miss in checker.mismatches:
                out.defect(miss.tile, "tile", miss.detail)
            for name, checkpoint in wrong:
                where = f"{self._path}/{name}"
                out.defect(
                    where,
                    "root",
                    f"signs another root than the first {checkpoint.size} "
                    "leaves of this log have: two histories were signed",
                )
            return
        for miss in checker.mismatches:
            if miss.level == 0 and "missing" not in miss.detail:
                width = min(WIDTH, latest.size - miss.index * WIDTH)
                bundle = f"{self._path}/{TileName(-1, miss.index, width).path()}"
                out.defect(bundle, "leaf", "holds leaves whose hashes are not those in the log")
        if not out.defects:
            out.defect(
                f"{self._path}/checkpoint",
                "root",
                "signs another root than the entries have: leaves were replaced",
            )
