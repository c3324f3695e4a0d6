# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the record is sealed to: public keys here, private keys only where auditors are."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

_RECIPIENT = "trailgate-recipient-x25519"
_IDENTITY = "trailgate-identity-x25519"


class BadKey(ValueError):
    """A key file is not what it must be. Its text names the file, never a private key."""


def _fingerprint(public: bytes) -> str:
    return "x25519:" + sha256(public).hexdigest()


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key that session keys are wrapped to."""

    public: bytes

    @staticmethod
    def parse(text: str) -> Recipient:
        """The one line of a `recipient.pub` file. Raises BadKey."""
        words = text.split()
        if len(words) != 2 or words[0] != _RECIPIENT:
            raise BadKey(f"no recipient: write one line `{_RECIPIENT} BASE64`, from recipient.pub")
        raw = _decode(words[1])
        if raw is None:
            raise BadKey(f"the key behind `{_RECIPIENT}` is not 32 bytes in base64: copy it again")
        return Recipient(raw)

    @property
    def public_key(self) -> X25519PublicKey:
        return X25519PublicKey.from_public_bytes(self.public)

    @property
    def fingerprint(self) -> str:
        """As wraps and leaves name the recipient."""
        return _fingerprint(self.public)

    @property
    def text(self) -> str:
        """The line that `parse` reads."""
        return f"{_RECIPIENT} {base64.b64encode(self.public).decode()}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Private keys by the fingerprint of their public one."""

    keys: Mapping[str, X25519PrivateKey] = field(repr=False)

    @staticmethod
    def read(path: Path) -> Identity:
        """An identity file: one key a line. Raises BadKey, OSError.

        A file that others can read is refused: the key has to be taken as known to them.
        """
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise BadKey(f"{path}: others may read it; chmod 600 {path}, or make a new key")
            lines = file.read(1 << 20).decode("ascii", "replace").splitlines()
        keys: dict[str, X25519PrivateKey] = {}
        for line in lines:
            words = line.split()
            if words[:1] != [_IDENTITY]:
                continue
            raw = _decode(words[1]) if len(words) == 2 else None
            if raw is None:
                raise BadKey(f"{path}: a line holds no key of 32 bytes; nothing of it is shown")
            key = X25519PrivateKey.from_private_bytes(raw)
            keys[_fingerprint(key.public_key().public_bytes_raw())] = key
        if not keys:
            raise BadKey(f"{path}: holds no line that begins with {_IDENTITY}")
        return Identity(keys)


def make_recipient(folder: Path) -> Recipient:
    """Make a key pair: `folder`/identity (0600) and `folder`/recipient.pub; the folder is 0700.

    Raises FileExistsError when an identity is there: a key in use is never replaced. OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    key = X25519PrivateKey.generate()
    recipient = Recipient(key.public_key().public_bytes_raw())
    private = base64.b64encode(key.private_bytes_raw()).decode()
    _create(folder / "identity", f"{_IDENTITY} {private}\n", 0o600)
    (folder / "recipient.pub").unlink(missing_ok=True)
    _create(folder / "recipient.pub", recipient.text + "\n", 0o644)
    return recipient


def _create(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _decode(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return raw if len(raw) == 32 else None
