# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's key, and C2SP signed notes made with it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import stat
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.model import RecordFailed
from gateway.record import durable

_MARK = "trailgate-node-ed25519"
_ED25519 = b"\x01"


def load_or_make(path: Path) -> Ed25519PrivateKey:
    """The key in `path` (0600); made when there is none. Raises RecordFailed, OSError. Blocks."""
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        text = f"{_MARK} {base64.b64encode(key.private_bytes_raw()).decode()}\n"
        unfinished = path.with_name(".unfinished-key")
        unfinished.unlink(missing_ok=True)
        durable.put(path, text.encode(), unfinished, 0o600)
        return key
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise RecordFailed(f"{path}: others may read the node's key: chmod 600 {path}")
    words = path.read_bytes()[:200].decode("ascii", "replace").split()
    try:
        if len(words) != 2 or words[0] != _MARK:
            raise ValueError
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(words[1], validate=True))
    except ValueError:
        raise RecordFailed(
            f"{path}: is no node key: restore it, or move it away, and the node starts a new log"
        ) from None


class NoteSigner:
    """Signs, and reads back, the checkpoints of one log."""

    def __init__(self, key: Ed25519PrivateKey, origin: str) -> None:
        self.key = key
        self.origin = origin
        public = _ED25519 + key.public_key().public_bytes_raw()
        self._hash = sha256(origin.encode() + b"\n" + public).digest()[:4]
        self.vkey = f"{origin}+{self._hash.hex()}+{base64.b64encode(public).decode()}"
        """The verifier key, to publish."""

    def checkpoint(self, size: int, root: bytes) -> bytes:
        """A signed note over origin, size and root."""
        return self.note(f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n")

    def request(self, since: str) -> bytes:
        """What an offline root makes a certificate of: the key, used since that time."""
        return self.note(f"trailgate/node-request/1\n{self.vkey}\n{since}\n")

    def rotation(self, new: NoteSigner) -> dict[str, str]:
        """The members of the leaf by which this key hands over to the next one."""
        signed = f"trailgate/node-rotation/1\n{self.vkey}\n{new.vkey}\n".encode()
        by_old, by_new = (base64.b64encode(one.key.sign(signed)).decode() for one in (self, new))
        return {"old": self.vkey, "new": new.vkey, "by_old": by_old, "by_new": by_new}

    def note(self, body: str) -> bytes:
        """A C2SP signed note."""
        signature = base64.b64encode(self._hash + self.key.sign(body.encode())).decode()
        return f"{body}\n\u2014 {self.origin} {signature}\n".encode()

    def open(self, note: bytes) -> tuple[int, bytes]:
        """Size and root of a checkpoint that this key signed. Raises ValueError."""
        try:
            lines = note.decode("utf-8").split("\n")
            mark = f"\u2014 {self.origin} "
            if len(lines) != 6 or lines[0] != self.origin or not lines[4].startswith(mark):
                raise ValueError("is no checkpoint of this log")
            signature = base64.b64decode(lines[4].removeprefix(mark), validate=True)
            body = "\n".join(lines[:3]) + "\n"
            self.key.public_key().verify(signature[4:], body.encode())
            return int(lines[1]), base64.b64decode(lines[2], validate=True)
        except InvalidSignature:
            raise ValueError("is not signed by this node's key") from None


def read_vkey(log: Path) -> str:
    """The published verifier key of a log folder, or nothing."""
    try:
        return (log / "node.vkey").read_text("utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def log_vkeys(log: Path) -> list[str]:
    """The published verifier keys of a log folder: the first, then those of its rotations."""
    rotated = sorted((log / "rotated").glob("[0-9]*"), key=lambda path: int(path.name))
    try:
        return [read_vkey(log), *(str(json.loads(one.read_bytes())["new"]) for one in rotated)]
    except (ValueError, KeyError, TypeError):
        raise RecordFailed(f"{log}/rotated: is damaged: restore it from a copy") from None


def lock_folder(path: Path) -> int:
    """Take the one writer's lock of a folder; closing the descriptor frees it.

    Raises RecordFailed when another process holds it, OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RecordFailed(
            f"{path}: another gateway writes here: stop it, or give this one a data folder and a "
            "node name of its own"
        ) from None
    return descriptor
