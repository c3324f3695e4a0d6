# SPDX-License-Identifier: GPL-3.0-or-later
"""The master key behind a seam: a local key here, KMS and Vault transit in files of their own.

A master key only ever wraps keys. Each has an id, which is kept with what it wrapped, so that an
older one can go on opening until everything is wrapped anew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol as Interface

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
FILE_CAP = 4096
_NONCE_BYTES = 12


class VaultFailed(Exception):
    """A secret cannot be kept or given; the text names the place and the cure, never a secret."""


class MasterKey(Interface):
    """What wraps data keys. All raise VaultFailed; none blocks the loop."""

    @property
    def id(self) -> str:
        """Names the key that `wrap` uses; known once `start` returned."""

    async def start(self) -> None:
        """Reach it, and prove that it wraps and unwraps."""

    def opens(self, master: str) -> bool:
        """True if it is the one to ask for what a key of that id wrapped."""

    async def wrap(self, key: bytes, context: bytes) -> bytes: ...

    async def unwrap(self, master: str, wrapped: bytes, context: bytes) -> bytes: ...

    async def close(self) -> None: ...


class LocalKey:
    """32 bytes in this process, from a file or a systemd credential."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        # Says nothing of the key, and is the same wherever the key was read from.
        self.id = (
            "local:" + hmac.new(key, b"trailgate master key id", hashlib.sha256).hexdigest()[:16]
        )

    async def start(self) -> None:
        """It is here."""

    def opens(self, master: str) -> bool:
        return master == self.id

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, context)

    async def unwrap(self, master: str, wrapped: bytes, context: bytes) -> bytes:
        nonce, rest = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, rest, context)
        except (InvalidTag, ValueError):
            raise VaultFailed(
                f"a key under the master key {master} does not open: it was changed, or stands in "
                "another's place; restore the store from a backup"
            ) from None

    async def close(self) -> None:
        """Nothing is held."""


def make_key_file(path: Path) -> None:
    """Write a new key, for nobody else to read; what is there already stays. Raises OSError."""
    text = base64.b64encode(os.urandom(KEY_BYTES)) + b"\n"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # whatever it wraps must not outlive it
    finally:
        os.close(folder)


def read_key_file(path: Path, *, shared: bool = False) -> LocalKey:
    """The key in a file; `shared`: its mode is somebody else's affair. Raises VaultFailed."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(FILE_CAP + 1)
    except OSError as error:
        raise VaultFailed(
            f"master key {path}: {error.strerror}; restore it from its backup: without it nothing "
            "in the vault opens (docs/credentials.md)"
        ) from None
    if mode & 0o077 and not shared:
        raise VaultFailed(f"master key {path}: others may read it; chmod 600 {path}")
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise VaultFailed(
            f"master key {path}: is not {KEY_BYTES} bytes in base64; see `trailgate init`"
        )
    return LocalKey(key)


def read_systemd_credential(name: str, env: Mapping[str, str] = os.environ) -> LocalKey:
    """The key that systemd passes to the service (LoadCredential=). Raises VaultFailed."""
    folder = env.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise VaultFailed(
            f"master key: no systemd credential {name} here; add LoadCredential={name}:PATH to the "
            "unit, and run as that service"
        )
    # systemd gives access by an ACL, whose mask shows as the group's mode.
    return read_key_file(Path(folder) / name, shared=True)


class KeyRing:
    """The master key that wraps, and older ones that only open."""

    def __init__(self, current: MasterKey, previous: Sequence[MasterKey] = ()) -> None:
        self.current = current
        self._keys = (current, *previous)

    async def start(self) -> None:
        """Reach the keys. Raises VaultFailed."""
        for key in self._keys:
            await key.start()

    async def wrap(self, key: bytes, context: bytes) -> tuple[str, bytes]:
        """The id of the key that wrapped, and the wrapped key. Raises VaultFailed."""
        wrapped = await self.current.wrap(key, context)
        return self.current.id, wrapped

    async def unwrap(self, master: str, wrapped: bytes, context: bytes) -> bytes:
        """Raises VaultFailed."""
        for key in self._keys:
            if key.opens(master):
                return await key.unwrap(master, wrapped, context)
        raise VaultFailed(
            f"the store holds keys under the master key {master}, the settings name "
            f"{self.current.id}: name the other one in master_key.previous, then run "
            "`trailgate credentials rewrap`"
        )

    async def close(self) -> None:
        for key in self._keys:
            await key.close()
