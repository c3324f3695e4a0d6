# SPDX-License-Identifier: GPL-3.0-or-later
"""Which log a node writes: the one of its key, or a new one that goes on for the last.

A node that lost its disk has no key, or no log, of what it shipped: it never writes that log again,
it opens the next number, whose first leaf cites the last checkpoint that others were shown.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.model import RecordFailed
from gateway.record import durable, nodekey
from gateway.record.log import TileLog
from gateway.record.tiles import split_bundle, tile_name


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The newest log of a node that lies elsewhere, and its last checkpoint there."""

    number: int
    note: bytes = b""
    source: str = "none"
    """`witness`, `evidence` or `none`: who showed that checkpoint."""

    def leaf(self) -> dict[str, object]:
        """The members of the succession leaf."""
        source = self.source if self.note else "none"
        return {"log": self.number, "source": source, "note": self.note.decode()}


@dataclass(frozen=True, slots=True)
class Chosen:
    """`predecessor`: what the log, if it is new, goes on for."""

    number: int
    tiles: TileLog
    predecessor: Predecessor | None
    following: Ed25519PrivateKey | None
    """The next key, made and not yet in use."""


def origin_of(node: str, number: int) -> str:
    return f"trailgate/{node}/{number}"


def own_log(node_folder: Path, evidence: Path, node: str) -> int | None:
    """The log here that the node's key writes; None: it has to open one. Raises OSError."""
    path = node_folder / "key"
    if not path.exists():
        return None
    return _matching(evidence / "log" / node, node, nodekey.load_or_make(path))


def _numbers(place: Path) -> list[int]:
    if not place.is_dir():
        return []
    return sorted(int(path.name) for path in place.iterdir() if path.name.isdigit())


def _matching(place: Path, node: str, key: Ed25519PrivateKey) -> int | None:
    for number in reversed(_numbers(place)):
        vkeys = nodekey.log_vkeys(place / str(number))
        if nodekey.NoteSigner(key, origin_of(node, number)).vkey in vkeys:
            return number
    return None


def choose_log(
    evidence: Path, node: str, node_folder: Path, elsewhere: Predecessor | None
) -> Chosen:
    """The log that the node's key writes, or the next free number. Raises RecordFailed, OSError."""
    place = evidence / "log" / node
    durable.make_folder(place)
    key = nodekey.load_or_make(node_folder / "key")
    following = None
    if (node_folder / "key.next").exists():
        following = nodekey.load_or_make(node_folder / "key.next")
    number = _matching(place, node, key)
    if number is None and following is not None:
        number = _matching(place, node, following)
    if number is not None:
        key, following = _settled(node_folder, place / str(number), node, number, key, following)
        begun = (place / str(number) / "checkpoint").exists()
        before = None if begun else _before(evidence, node, elsewhere, number)
    else:
        before = _before(evidence, node, elsewhere)
        number = before.number + 1 if before else 0
    signer = nodekey.NoteSigner(key, origin_of(node, number))
    return Chosen(number, TileLog(place / str(number), signer), before, following)


def _settled(
    node_folder: Path,
    log: Path,
    node: str,
    number: int,
    key: Ed25519PrivateKey,
    following: Ed25519PrivateKey | None,
) -> tuple[Ed25519PrivateKey, Ed25519PrivateKey | None]:
    """A kill between a rotation's checkpoint and the change of files: the change is made now."""
    if following is None:
        return key, None
    signer = nodekey.NoteSigner(following, origin_of(node, number))
    copies = [path for path in (log / "checkpoints").glob("[0-9]*") if path.name.isdigit()]
    newest = max(copies, key=lambda path: int(path.name), default=None)
    try:
        if newest is not None:
            signer.open(newest.read_bytes())
            finish_rotation(node_folder)
            return following, None
    except ValueError:
        pass  # the rotation is yet to come
    return key, following


def finish_rotation(node_folder: Path) -> None:
    """The next key takes the place of the last one, which is gone then. Raises OSError."""
    os.rename(node_folder / "key.next", node_folder / "key")
    (node_folder / "rotate").unlink(missing_ok=True)
    durable.sync_folder(node_folder)


def _before(
    evidence: Path, node: str, elsewhere: Predecessor | None, below: int = 1 << 62
) -> Predecessor | None:
    """The newest log of the node, here or elsewhere. Raises RecordFailed where it was retired."""
    numbers = [one for one in _numbers(evidence / "log" / node) if one < below]
    number = max(numbers, default=None)
    if number is None or (elsewhere is not None and elsewhere.number > number):
        return elsewhere
    log = evidence / "log" / node / str(number)
    if elsewhere is not None and elsewhere.number == number and elsewhere.note:
        before = elsewhere
    else:
        before = Predecessor(number, _last_note(log), "evidence")
    if is_retired(log):
        raise RecordFailed(
            f"{log}: was retired, and a retired node signs nothing more: give this one another name"
        )
    return before


def _last_note(log: Path) -> bytes:
    """The last checkpoint that lies in a log."""
    try:
        return (log / "checkpoint").read_bytes()
    except FileNotFoundError:
        return b""


def is_retired(log: Path) -> bool:
    """Whether the last signed leaf of a log ends its node. Raises RecordFailed, OSError."""
    note = _last_note(log)
    size = int(note.split(b"\n")[1]) if note else 0
    if not size:
        return False
    index, width = (size - 1) // 256, size - (size - 1) // 256 * 256
    path = log / tile_name(-1, index, width)
    try:
        leaf = json.loads(split_bundle(path.read_bytes())[-1])
        return bool(leaf["type"] == "retirement")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise RecordFailed(f"{path}: cannot be read: restore it from a copy") from error
