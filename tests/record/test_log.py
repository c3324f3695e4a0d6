# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees and tiles against their definition, and the log after a cut at any of its writes."""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.model import RecordFailed
from gateway.record import durable, tree
from gateway.record.choosing import choose_log
from gateway.record.log import TileLog
from gateway.record.nodekey import NoteSigner, load_or_make
from gateway.record.tiles import TileTree


def defined(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if len(leaves) < 2:
        return sha256(b"\0" + leaves[0] if leaves else b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + defined(leaves[:split]) + defined(leaves[split:])).digest()


def leaves(count: int) -> list[bytes]:
    return [json.dumps({"type": "policy", "n": number}).encode() for number in range(count)]


def test_roots_are_those_of_the_definition() -> None:
    peaks: list[bytes] = []
    tiles = TileTree()
    for count, leaf in enumerate(leaves(600)):
        assert tree.root(peaks) == tiles.root() == defined(leaves(count)), count
        tree.append(peaks, count, tree.leaf_hash(leaf))
        tiles.append(leaf)


def log_in(folder: Path, key: Ed25519PrivateKey, put: Any = durable.put) -> TileLog:
    log = TileLog(folder / "log" / "gw" / "0", NoteSigner(key, "trailgate/gw/0"), put)
    log.resume()
    return log


@pytest.mark.parametrize("first", [0, 1, 255, 256, 257, 70000])
def test_a_log_goes_on_where_it_was_signed(tmp_path: Path, first: int) -> None:
    key = Ed25519PrivateKey.generate()
    log = log_in(tmp_path, key)
    log.add(leaves(first))
    log.sign()
    again = log_in(tmp_path, key)
    assert again.signed == first
    again.add([b"new", b"newer"])
    again.sign()
    size, root = again.signer.open((again.folder / "checkpoint").read_bytes())
    assert (size, root) == (first + 2, defined([*leaves(first), b"new", b"newer"]))
    start = max(0, first - 3)
    expected = [*leaves(first), b"new", b"newer"][start:]
    assert [leaf for _, leaf in again.leaves(start)] == expected


def test_a_cut_between_any_two_writes_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    """Every write is one rename: stop after each of them, in turn."""
    key = Ed25519PrivateKey.generate()
    base = tmp_path / "base"
    log = log_in(base, key)
    log.add(leaves(250))
    log.sign()
    cuts = 0
    while True:
        place = tmp_path / "cut"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        cut = log_in(place, key, _Putter(cuts))
        cut.add([b"lost %d" % number for number in range(300)])
        try:
            cut.sign()
            finished = True
        except _CutError:
            finished = False
        resumed = log_in(place, key)
        assert resumed.signed == (550 if finished or resumed.signed > 250 else 250)
        resumed.add([b"after"] * 10)
        resumed.sign()
        again = log_in(place, key)
        found = [leaf for _, leaf in again.leaves(0)]
        assert len(found) == again.signed == resumed.signed
        assert again.signer.open((again.folder / "checkpoint").read_bytes())[1] == defined(found)
        if finished:
            break
        cuts += 1
    assert cuts >= 6


class _CutError(Exception):
    pass


class _Putter:
    """Puts files until it is cut, half way through one: written, but not yet renamed."""

    def __init__(self, files: int) -> None:
        self._left = files

    def __call__(self, path: Path, data: bytes, unfinished: Path) -> None:
        if not self._left:
            unfinished.write_bytes(data[: len(data) // 2])
            raise _CutError
        self._left -= 1
        durable.put(path, data, unfinished)


def test_a_log_whose_tiles_were_changed_is_not_continued(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    log = log_in(tmp_path, key)
    log.add(leaves(3))
    log.sign()
    tile = log.folder / "tile" / "0" / "000.p" / "3"
    tile.write_bytes(bytes(96))
    with pytest.raises(RecordFailed, match="do not have the root"):
        log_in(tmp_path, key)
    tile.unlink()
    with pytest.raises(RecordFailed, match="missing"):
        log_in(tmp_path, key)


def test_a_node_that_lost_its_key_starts_the_next_log(tmp_path: Path) -> None:
    def chosen() -> int:
        return choose_log(tmp_path / "evidence", "gw", tmp_path, None).number

    first = choose_log(tmp_path / "evidence", "gw", tmp_path, None)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    first.tiles.resume()
    assert (first.number, chosen()) == (0, 0)
    os.rename(tmp_path / "key", tmp_path / "lost")
    assert chosen() == 1
    os.rename(tmp_path / "lost", tmp_path / "key")
    assert chosen() == 0
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(RecordFailed, match="chmod 600"):
        load_or_make(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "key").write_text("nothing")
    with pytest.raises(RecordFailed, match="no node key"):
        load_or_make(tmp_path / "key")
