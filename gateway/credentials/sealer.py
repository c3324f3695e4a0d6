# SPDX-License-Identifier: GPL-3.0-or-later
"""Seals what the gateway keeps for itself: refresh tokens, signing keys.

Each purpose has a key of its own in the store, wrapped by the master key: a re-wrap changes that
one row, and what was sealed stays as it is.
"""

from __future__ import annotations

import asyncio

from gateway.credentials.envelope import decrypt, encrypt, new_key, wipe
from gateway.credentials.master import KeyRing, VaultFailed
from gateway.credentials.ports import SecretStore
from gateway.credentials.vault import key_context
from gateway.vault_model import SealingKey

ATTEMPTS = 8
_NUMBER_BYTES = 4
_MOST_KEYS = 64
"""Kept unwrapped in memory; purposes are words of the program, never a caller's."""


class Sealer:
    """`open(purpose, seal(purpose, data)) == data`; under another purpose it does not open."""

    def __init__(self, store: SecretStore, ring: KeyRing) -> None:
        self._store = store
        self._ring = ring
        self._keys: dict[tuple[str, int], bytes] = {}
        self._newest: dict[str, int] = {}
        self._making = asyncio.Lock()

    async def seal(self, purpose: str, data: bytes) -> bytes:
        """The key's number, then the sealed data. Raises VaultFailed, StoreFailed."""
        number, key = await self._newest_key(purpose)
        head = number.to_bytes(_NUMBER_BYTES, "big")
        return head + encrypt(key, _context(purpose, number), data)

    async def open(self, purpose: str, data: bytes) -> bytes:
        """What was sealed for this purpose. Raises VaultFailed, StoreFailed."""
        if len(data) <= _NUMBER_BYTES:
            raise VaultFailed(f"what was sealed for {purpose} is cut")
        number = int.from_bytes(data[:_NUMBER_BYTES], "big")
        key = self._keys.get((purpose, number))
        if key is None:
            async with self._making:
                key = await self._loaded(purpose, number)
        return decrypt(key, _context(purpose, number), data[_NUMBER_BYTES:])

    async def _newest_key(self, purpose: str) -> tuple[int, bytes]:
        if purpose not in self._newest:
            async with self._making:
                await self._load_or_make(purpose)
        number = self._newest[purpose]
        key = self._keys.get((purpose, number))
        if key is None:
            key = await self._loaded(purpose, number)
        return number, key

    async def _load_or_make(self, purpose: str) -> None:
        for _ in range(ATTEMPTS):
            known = await self._store.sealing_keys(purpose)
            if known:
                self._newest[purpose] = known[-1].number
                return
            await self._store.add_sealing_key(await self._made(purpose, 1))
        raise VaultFailed(f"no key to seal for {purpose} could be made")

    async def _made(self, purpose: str, number: int) -> SealingKey:
        key = new_key()
        try:
            master, wrapped = await self._ring.wrap(bytes(key), key_context(purpose, number))
        finally:
            wipe(key)
        return SealingKey(purpose, number, master, wrapped)

    async def _loaded(self, purpose: str, number: int) -> bytes:
        for one in await self._store.sealing_keys(purpose):
            if one.number == number:
                context = key_context(purpose, number)
                key = await self._ring.unwrap(one.master, one.wrapped, context)
                if len(self._keys) >= _MOST_KEYS:
                    self._keys.pop(next(iter(self._keys)))
                self._keys[purpose, number] = key
                return key
        raise VaultFailed(
            f"what was sealed for {purpose} names key {number}, which the store does not have; "
            "restore the store from a backup"
        )


def _context(purpose: str, number: int) -> bytes:
    return b"sealed:" + key_context(purpose, number)
