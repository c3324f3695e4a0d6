# SPDX-License-Identifier: GPL-3.0-or-later
"""A witness's folder and its one decision: does this checkpoint extend the last one?

key             the witness's private key, 0600
policy          a C2SP tlog-policy: the logs it serves, itself, and itself as the quorum
seen/<sha256>   the latest checkpoint of each log that it cosigned, named by the origin's hash
"""

from __future__ import annotations

import base64
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.verify.consistency import MOST_HASHES, is_consistent
from gateway.verify.note import (
    COSIGNATURE,
    Checkpoint,
    Note,
    NoteError,
    VerifierKey,
    exact_base64,
    own_checkpoint,
    parse_note,
)
from gateway.verify.tree import EMPTY_ROOT
from gateway.verify.trust import POLICY, SEEN, Trust

_MARK = "trailgate-witness-ed25519"
SIZE_TYPE = "text/x.tlog.size"
MOST_REQUEST = 65536


class WitnessError(Exception):
    """The folder cannot be used; the text names the place and the cure."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer (C2SP tlog-witness)."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Witness:
    """One folder. Thread-safe; another process that uses the folder is refused."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """`Witness.open` makes it."""
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._held = -1
        self._key: Ed25519PrivateKey
        self._trust = Trust()
        self.vkey: VerifierKey

    @staticmethod
    def open(
        folder: Path, name: str, logs: Sequence[str] = (), clock: Callable[[], float] = time.time
    ) -> Witness:
        """Take the folder, made when it is not there, and add the logs of these vkeys.

        `name` is that of a new key. Raises WitnessError, NoteError, OSError.
        """
        witness = Witness(folder, clock)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / SEEN).mkdir(mode=0o700, exist_ok=True)
        witness._held = _locked(folder)
        try:
            witness._key, witness.vkey = _load_or_make(folder / "key", name)
            witness._load_policy(logs)
        except BaseException:
            witness.close()
            raise
        return witness

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._held)

    @property
    def logs(self) -> list[str]:
        """The origins that it serves."""
        return sorted(self._trust.logs)

    def _load_policy(self, logs: Sequence[str]) -> None:
        path = self._folder / POLICY
        text = path.read_text("utf-8") if path.exists() else ""
        known, more = Trust.parse(text) if text else Trust(), []
        for line in logs:
            key = VerifierKey.parse(line)
            if key.name not in known.logs:
                more.append(f"log {key.text()}\n")
            if known.logs.setdefault(key.name, key) != key:
                raise WitnessError(
                    f"{path}: names another key for {key.name}: a log keeps its key for life, "
                    "so this is another log, or a forged one"
                )
        if not known.logs:
            raise WitnessError("no log to witness: name its key once, --log NODE.VKEY")
        if not text:
            more += [f"witness self {self.vkey.text()}\n", "quorum self\n"]
        if more:
            # Added to, never written anew: the auditor may have named other witnesses in it.
            text = text if not text or text.endswith("\n") else text + "\n"
            self._put(path, (text + "".join(more)).encode())
        self._trust = known

    # --- the decision ----------------------------------------------------------------------------

    def add_checkpoint(self, request: bytes) -> Answer:
        """C2SP tlog-witness, add-checkpoint. Raises OSError: then nothing was cosigned."""
        try:
            old, proof, note = parse_request(request)
        except NoteError as error:
            return Answer(400, f"{error}\n".encode())
        key = self._trust.logs.get(note.body.split(b"\n", 1)[0].decode())
        if key is None:
            return Answer(404, b"this witness does not serve that log\n")
        try:
            checkpoint = own_checkpoint(note, key)
        except NoteError as error:
            return Answer(403, f"{error}\n".encode())
        if old > checkpoint.size:
            return Answer(400, b"the old size is larger than the checkpoint's\n")
        with self._lock:
            return self._extend(old, proof, note, checkpoint, key)

    def _extend(
        self, old: int, proof: list[bytes], note: Note, new: Checkpoint, key: VerifierKey
    ) -> Answer:
        last = self.last(key.name)
        size, root = (last.size, last.root) if last else (0, EMPTY_ROOT)
        told = Answer(409, f"{size}\n".encode(), SIZE_TYPE)
        if old != size or (last is not None and size == new.size and root != new.root):
            return told
        if size == new.size == 0 and new.root != EMPTY_ROOT:
            return Answer(422, b"a log without leaves has another root\n")
        if not is_consistent(size, root, new.size, new.root, proof):
            return Answer(422, b"the proof does not show that the checkpoint extends the last\n")
        return Answer(200, self.cosign(note, key))

    def last(self, origin: str) -> Checkpoint | None:
        """The latest checkpoint that was cosigned. Raises NoteError when the folder is damaged."""
        try:
            data = self._seen(origin).read_bytes()
        except FileNotFoundError:
            return None
        return own_checkpoint(parse_note(data), self._trust.logs[origin])

    def cosign(self, note: Note, key: VerifierKey) -> bytes:
        """Remember a checkpoint and cosign it; the signature line. Raises OSError."""
        at = int(self._clock())
        signed = self._key.sign(b"cosignature/v1\ntime %d\n" % at + note.body)
        line = _line(self.vkey.name, self.vkey.hash + at.to_bytes(8, "big") + signed)
        own = next(data for name, data in note.signatures if data[:4] == key.hash)
        kept = note.body + b"\n" + _line(key.name, own) + line
        self._put(self._seen(key.name), kept)
        return line

    def _seen(self, origin: str) -> Path:
        return self._folder / SEEN / sha256(origin.encode()).hexdigest()

    def _put(self, path: Path, data: bytes) -> None:
        """Replace a file, durably: a witness that forgets may cosign two histories."""
        _write(path.parent / ".unfinished", data, 0o644)
        os.rename(path.parent / ".unfinished", path)
        _sync_folder(path.parent)


def parse_request(data: bytes) -> tuple[int, list[bytes], Note]:
    """Old size, proof and checkpoint of an add-checkpoint request. Raises NoteError."""
    head, found, rest = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        lines = []
    word, _, size = (lines or [""])[0].partition(" ")
    if not found or word != "old" or not size.isdecimal() or str(int(size[:20])) != size:
        raise NoteError("begins with no line `old SIZE`, or has no empty line")
    if len(lines) - 1 > MOST_HASHES:
        raise NoteError(f"has more than {MOST_HASHES} hashes")
    proof = [exact_base64(line) for line in lines[1:]]
    if any(len(hashed) != 32 for hashed in proof):
        raise NoteError("has a hash that is not of 32 bytes")
    return int(size), proof, parse_note(rest)


def _line(name: str, signature: bytes) -> bytes:
    return f"\u2014 {name} {base64.b64encode(signature).decode()}\n".encode()


def _write(path: Path, data: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise WitnessError(f"{folder}: another witness uses it: stop that one first") from None
    return descriptor


def _load_or_make(path: Path, name: str) -> tuple[Ed25519PrivateKey, VerifierKey]:
    if not path.exists():
        if any((path.parent / SEEN).iterdir()):
            raise WitnessError(f"{path}: is missing: restore it; a new key needs a new folder")
        key = Ed25519PrivateKey.generate()
        secret = base64.b64encode(key.private_bytes_raw()).decode()
        _write(path.with_name(".unfinished"), f"{_MARK} {name} {secret}\n".encode(), 0o600)
        os.rename(path.with_name(".unfinished"), path)
        _sync_folder(path.parent)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise WitnessError(f"{path}: others may read the witness's key: chmod 600 {path}")
    words = path.read_text("utf-8")[:1000].split()
    try:
        mark, name, secret = words
        key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret, validate=True))
        vkey = VerifierKey.make(name, key.public_key().public_bytes_raw(), COSIGNATURE)
        VerifierKey.parse(vkey.text(), COSIGNATURE)
        if mark != _MARK:
            raise ValueError
    except (ValueError, NoteError):
        raise WitnessError(f"{path}: is no witness's key: restore it") from None
    return key, vkey
