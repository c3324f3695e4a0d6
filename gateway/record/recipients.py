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
from typing import Any

from gateway.record.key_kinds import AGE, AGE_KIND, HPKE, KINDS, AgeKind, CannotOpen, HpkeKind

__all__ = ["KINDS", "BadKey", "CannotOpen", "Identity", "PrivateKey", "Recipient", "make_recipient"]

_RECIPIENT = "trailgate-recipient-"
_IDENTITY = "trailgate-identity-"
_AGE_RECIPIENT = "age1"
_AGE_IDENTITY = "AGE-SECRET-KEY-1"
_PRIVATE_BYTES = 32


class BadKey(ValueError):
    """A key file is not what it must be. Its text names the file, never a private key."""


def _fingerprint(kind: str, public: bytes) -> str:
    return f"{kind}:{sha256(public).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key that session keys are wrapped to."""

    kind: str
    public: bytes
    """Raw as HPKE serialises it; of age the recipient's text."""
    key: Any = field(compare=False, repr=False)

    @staticmethod
    def parse(text: str) -> Recipient:
        """The one line of a `recipient.pub` file, or an age recipient. Raises BadKey."""
        words = text.split()
        if len(words) == 1 and words[0].startswith(_AGE_RECIPIENT):
            return _parse_age(words[0])
        kind = HPKE.get(words[0].removeprefix(_RECIPIENT)) if words else None
        if kind is None or len(words) != 2 or not words[0].startswith(_RECIPIENT):
            kinds = "|".join(HPKE)
            raise BadKey(
                f"no recipient: write one line `{_RECIPIENT}({kinds}) BASE64`, from recipient.pub, "
                "or `age1...`"
            )
        raw = _decode(words[1], kind.public_bytes)
        try:
            key = None if raw is None else kind.load_public(raw)
        except ValueError:
            key = None
        if raw is None or key is None:
            raise BadKey(
                f"the key behind `{words[0]}` is no such key of {kind.public_bytes} bytes in "
                "base64: copy it again"
            )
        return Recipient(kind.name, raw, key)

    @property
    def suite(self) -> str:
        """How wraps for it are made, as they name it."""
        return KINDS[self.kind].suite

    @property
    def fingerprint(self) -> str:
        """As wraps and leaves name the recipient."""
        return _fingerprint(self.kind, self.public)

    @property
    def text(self) -> str:
        """The line that `parse` reads."""
        if self.kind == AGE:
            return self.public.decode()
        return f"{_RECIPIENT}{self.kind} {base64.b64encode(self.public).decode()}"

    def wrap(self, key: bytes, info: bytes) -> bytes:
        """`key` for this recipient alone, bound to `info`."""
        return KINDS[self.kind].wrap(self.key, key, info)


def _parse_age(text: str) -> Recipient:
    try:
        return Recipient(AGE, text.encode(), AGE_KIND.load_public(text))
    except ValueError as error:
        raise BadKey(f"`age1...` is no recipient of age ({error}): copy it again") from None


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """One key of an identity."""

    kind: HpkeKind | AgeKind
    key: Any = field(repr=False)

    @property
    def suite(self) -> str:
        """Of the wraps that it opens."""
        return self.kind.suite

    def unwrap(self, sealed: bytes, info: bytes) -> bytes:
        """Raises CannotOpen."""
        return self.kind.unwrap(self.key, sealed, info)


@dataclass(frozen=True, slots=True)
class Identity:
    """Private keys by the fingerprint of their public one."""

    keys: Mapping[str, PrivateKey] = field(repr=False)

    @staticmethod
    def read(path: Path) -> Identity:
        """An identity file: one key a line, of any kind; age's own files too. Raises BadKey,
        OSError.

        A file that others can read is refused: the key has to be taken as known to them.
        """
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise BadKey(f"{path}: others may read it; chmod 600 {path}, or make a new key")
            lines = file.read(1 << 20).decode("ascii", "replace").splitlines()
        keys: dict[str, PrivateKey] = {}
        for line in lines:
            try:
                found = _identity_line(line.split())
            except ValueError:
                raise BadKey(
                    f"{path}: a line holds no key of 32 bytes; nothing of it is shown"
                ) from None
            if found is not None:
                keys[found[0]] = found[1]
        if not keys:
            raise BadKey(
                f"{path}: holds no line that begins with {_IDENTITY}KIND or {_AGE_IDENTITY}"
            )
        return Identity(keys)


def _identity_line(words: list[str]) -> tuple[str, PrivateKey] | None:
    """Fingerprint and key of a line; None for one that holds none. Raises ValueError."""
    if len(words) == 1 and words[0].upper().startswith(_AGE_IDENTITY):
        key = AGE_KIND.load_private(words[0])
        return _fingerprint(AGE, str(key.to_public()).encode()), PrivateKey(AGE_KIND, key)
    kind = HPKE.get(words[0].removeprefix(_IDENTITY)) if words else None
    if kind is None or not words[0].startswith(_IDENTITY):
        return None
    raw = _decode(words[1], _PRIVATE_BYTES) if len(words) == 2 else None
    if raw is None:
        raise ValueError("no key")
    return _fingerprint(kind.name, kind.public_of(raw)), PrivateKey(kind, kind.load_private(raw))


def make_recipient(folder: Path, kind: str = "x25519") -> Recipient:
    """Make a key pair: `folder`/identity (0600) and `folder`/recipient.pub; the folder is 0700.

    Raises FileExistsError when an identity is there: a key in use is never replaced. OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    recipient, private = _make(kind)
    _create(folder / "identity", private + "\n", 0o600)
    (folder / "recipient.pub").unlink(missing_ok=True)
    _create(folder / "recipient.pub", recipient.text + "\n", 0o644)
    return recipient


def _make(kind: str) -> tuple[Recipient, str]:
    """A new key pair, and the line of the private one."""
    if kind == AGE:
        import pyrage

        identity = pyrage.x25519.Identity.generate()
        return _parse_age(str(identity.to_public())), str(identity)
    hpke = HPKE[kind]
    while True:
        raw = os.urandom(_PRIVATE_BYTES)
        try:
            public = hpke.public_of(raw)
        except ValueError:
            continue  # P-256: not below the order of the curve, once in 2^32
        line = f"{_IDENTITY}{kind} {base64.b64encode(raw).decode()}"
        return Recipient(kind, public, hpke.load_public(public)), line


def _create(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _decode(text: str, size: int) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return raw if len(raw) == size else None
