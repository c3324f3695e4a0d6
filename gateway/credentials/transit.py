# SPDX-License-Identifier: GPL-3.0-or-later
"""A master key that never leaves Vault (or OpenBao): its transit engine wraps and unwraps."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gateway.credentials.master import VaultFailed

PREFIX = "vault-transit:"
TIMEOUT_SECONDS = 10.0
TOKEN_CAP = 64 * 1024
ANSWER_CAP = 1 << 20


@dataclass(frozen=True, slots=True)
class TransitPlace:
    """Where the engine is, and where its token is read from, anew for each call."""

    url: str
    token_path: Path
    mount: str = "transit"
    namespace: str = ""
    ca_path: Path | None = None


class TransitKey:
    """A key of type aes256-gcm96 (or another AEAD) in a transit engine."""

    def __init__(self, name: str, place: TransitPlace) -> None:
        self._name = name
        self._place = place
        self._client: httpx.AsyncClient | None = None
        self.id = f"{PREFIX}{place.mount}/{name}"

    async def start(self) -> None:
        """Wrap and unwrap something, so that a missing permission shows now."""
        try:
            ca = self._place.ca_path
            verify = ssl.create_default_context(cafile=str(ca)) if ca else True
        except (OSError, ssl.SSLError) as error:
            raise self._failed(f"its CA {self._place.ca_path}: {error}") from None
        self._client = httpx.AsyncClient(
            base_url=self._place.url, verify=verify, timeout=TIMEOUT_SECONDS
        )
        wrapped = await self.wrap(b"probe", b"probe")
        await self.unwrap(self.id, wrapped, b"probe")

    def opens(self, master: str) -> bool:
        return master == self.id

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        data = await self._call("encrypt", plaintext=_text(key), associated_data=_text(context))
        ciphertext = data.get("ciphertext")
        if not isinstance(ciphertext, str) or not ciphertext.startswith("vault:v"):
            raise self._failed("it answered without a ciphertext")
        return ciphertext.encode()

    async def unwrap(self, master: str, wrapped: bytes, context: bytes) -> bytes:
        data = await self._call(
            "decrypt",
            ciphertext=wrapped.decode("ascii", "replace"),
            associated_data=_text(context),
        )
        try:
            return base64.b64decode(str(data.get("plaintext", "")), validate=True)
        except (binascii.Error, ValueError):
            raise self._failed("it answered without a plaintext") from None

    async def _call(self, verb: str, **body: str) -> Mapping[str, Any]:
        assert self._client is not None, "not started"
        headers = {"x-vault-token": self._token(), "x-vault-request": "true"}
        if self._place.namespace:
            headers["x-vault-namespace"] = self._place.namespace
        path = f"/v1/{quote(self._place.mount)}/{verb}/{quote(self._name, safe='')}"
        try:
            answer = await self._client.post(path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise self._failed(str(error) or type(error).__name__) from None
        if len(answer.content) > ANSWER_CAP:
            raise self._failed("its answer is too long")
        return self._data(verb, answer)

    def _data(self, verb: str, answer: httpx.Response) -> Mapping[str, Any]:
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._failed(f"{verb}: HTTP {answer.status_code}, and no JSON")
        if answer.status_code != 200:
            errors = document.get("errors")
            told = "; ".join(map(str, errors))[:300] if isinstance(errors, list) else ""
            raise self._failed(f"{verb}: HTTP {answer.status_code} {told}".rstrip())
        data = document.get("data")
        return data if isinstance(data, dict) else {}

    def _token(self) -> str:
        path = self._place.token_path
        try:
            with path.open(encoding="ascii") as file:
                token = file.read(TOKEN_CAP).strip()
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "it is no token"
            raise self._failed(f"its token {path}: {cause}") from None
        if not token.isprintable() or not token or " " in token:
            raise self._failed(f"its token {path} is not one word")
        return token

    def _failed(self, cause: str) -> VaultFailed:
        return VaultFailed(
            f"master key {self.id} at {self._place.url}: {cause}; check the address, ca_path, and "
            f"that the token may update {self._place.mount}/encrypt and decrypt"
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
