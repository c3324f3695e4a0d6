# SPDX-License-Identifier: GPL-3.0-or-later
"""A witness's folder and its one decision: does this checkpoint extend the last one?

key             the witness's private key, 0600
vkey            its public key, for trust files and for the gateway's settings
policy          a trust file: the logs it serves, roots whose certificates add logs, itself, and
                itself as the quorum
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
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.verify.certificate import node_of, open_certificate
from gateway.verify.consistency import MOST_HASHES, is_consistent
from gateway.verify.keychain import new_key
from gateway.verify.leaves import LeafError, parse_leaf
from gateway.verify.note import (
    COSIGNATURE,
    ED25519,
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
        folder: Path,
        name: str,
        logs: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        roots: Sequence[str] = (),
    ) -> Witness:
        """Take the folder, made when it is not there, and add the logs and roots of these vkeys.

        `name` is that of a new key. Raises WitnessError, NoteError, OSError.
        """
        witness = Witness(folder, clock)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / SEEN).mkdir(mode=0o700, exist_ok=True)
        witness._held = _locked(folder)
        try:
            witness._key, witness.vkey = _load_or_make(folder / "key", name)
            witness._load_policy(logs, roots)
            if not (folder / "vkey").exists():
                witness._put(folder / "vkey", witness.vkey.text().encode() + b"\n")
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

    def _load_policy(self, logs: Sequence[str], roots: Sequence[str]) -> None:
        path = self._folder / POLICY
        known, more = Trust(), []
        if path.exists():
            known = Trust.parse(path.read_text("utf-8"))
        for line in logs:
            key = VerifierKey.parse(line)
            if key.name not in known.logs:
                more.append(f"log {key.text()}\n")
                known.add_log(key)
            if key not in known.keys[key.name]:
                raise WitnessError(
                    f"{path}: names another key for {key.name}: a log changes its key by a "
                    "rotation only, so this is another log, or a forged one"
                )
        for line in roots:
            root = VerifierKey.parse(line)
            if known.roots.setdefault(root.name, root) != root:
                raise WitnessError(f"{path}: names another key for the root {root.name}")
            if f"root {root.text()}\n" not in more:
                more.append(f"root {root.text()}\n")
        if not known.logs and not known.roots:
            raise WitnessError("no log to witness: name its key once, --log NODE.VKEY, or a --root")
        if not path.exists():
            more += [f"witness self {self.vkey.text()}\n", "quorum self\n"]
        self._trust = known
        self._add_lines(more)

    def _add_lines(self, more: Sequence[str]) -> None:
        """Added to, never written anew: the auditor may have named other witnesses in it."""
        path = self._folder / POLICY
        text = path.read_text("utf-8") if path.exists() else ""
        lines = text if not text or text.endswith("\n") else text + "\n"
        more = [line for line in more if line not in lines.splitlines(keepends=True)]
        if more:
            self._put(path, (lines + "".join(more)).encode())

    # --- the decision ----------------------------------------------------------------------------

    def add_checkpoint(self, request: bytes) -> Answer:
        """C2SP tlog-witness, add-checkpoint. Raises OSError: then nothing was cosigned."""
        try:
            old, proof, note = parse_request(request)
        except NoteError as error:
            return Answer(400, f"{error}\n".encode())
        origin = note.body.split(b"\n", 1)[0].decode()
        key = self._trust.logs.get(origin) or self._of_known_node(origin, note)
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

    def _of_known_node(self, origin: str, note: Note) -> VerifierKey | None:
        """A later log of a node by a key that another log of the node has: it is taken in."""
        for known in [key for keys in self._trust.keys.values() for key in keys]:
            key = VerifierKey.make(origin, known.public, ED25519)
            try:
                if node_of(known.name) == node_of(origin):
                    own_checkpoint(note, key)
                    self._add_key(key)
                    return key
            except NoteError:
                continue
        return None

    def add_key(self, statement: bytes) -> Answer:
        """Take a log in by its node's certificate, or follow a log's rotation to its next key.

        Trailgate's own call, beside C2SP tlog-witness. Raises OSError: then nothing was added.
        """
        try:
            if statement.startswith(b"{"):
                key = self._rotated(statement)
            else:
                key = self._certified(statement)
        except (NoteError, LeafError) as error:
            return Answer(403, f"{error}\n".encode())
        self._add_key(key)
        return Answer(200, key.text().encode() + b"\n")

    def _rotated(self, leaf: bytes) -> VerifierKey:
        fields = parse_leaf(leaf)
        if fields["type"] != "rotation":
            raise NoteError("is no rotation")
        old = VerifierKey.parse(fields["old"])
        new = new_key(fields, old)
        known = self._trust.keys.get(old.name, [])
        if new not in known and self._trust.logs.get(old.name) != old:
            raise NoteError(f"rotates from a key that {old.name} does not have here")
        return new

    def _certified(self, note: bytes) -> VerifierKey:
        if not self._trust.roots:
            raise NoteError("this witness knows no root")
        certificate = open_certificate(note, self._trust.roots.values())
        at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        known = self._trust.keys.get(certificate.key.name)
        if known is not None and certificate.key not in known:
            raise NoteError("is of another key: a log changes its key by a rotation")
        if not certificate.holds_at(at):
            raise NoteError("is not in force now")
        return certificate.key

    def _add_key(self, key: VerifierKey) -> None:
        with self._lock:
            if key not in self._trust.keys.get(key.name, ()):
                self._add_lines([f"log {key.text()}\n"])
                self._trust.add_log(key)

    def latest(self, digest: str) -> Answer:
        """The latest checkpoint that was cosigned of the log whose origin has this SHA-256."""
        for origin in list(self._trust.logs):
            if sha256(origin.encode()).hexdigest() == digest and self._seen(origin).exists():
                return Answer(200, self._seen(origin).read_bytes())
        return Answer(404, b"this witness cosigned no checkpoint of that log\n")

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
        note, keys = parse_note(data), self._trust.keys[origin]
        hashes = {signature[:4] for _, signature in note.signatures}
        # What was cosigned before a rotation is signed by the key of that time.
        key = next((one for one in keys if one.hash in hashes), keys[-1])
        return own_checkpoint(note, key)

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
