# SPDX-License-Identifier: GPL-3.0-or-later
"""A master key that never leaves AWS KMS: data keys go there to be wrapped and unwrapped."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.credentials.master import VaultFailed

T = TypeVar("T")

PREFIX = "aws-kms:"
CONNECT_SECONDS = 5
READ_SECONDS = 10
ATTEMPTS = 3


class KmsKey:
    """A symmetric key of AWS KMS, by key id, ARN or alias. What is wrapped is bound to its context
    by KMS's encryption context, which is in CloudTrail: it names credentials, never secrets."""

    def __init__(self, key: str, region: str | None = None, endpoint: str | None = None) -> None:
        self._key = key
        self._place: dict[str, Any] = {"region_name": region, "endpoint_url": endpoint}
        self._client: Any = None
        self.id = PREFIX + key

    async def start(self) -> None:
        """Wrap and unwrap something, so that a missing permission shows now."""
        self._client = await asyncio.to_thread(self._asked, self._connect)
        wrapped = await self.wrap(b"probe", b"probe")
        await self.unwrap(self.id, wrapped, b"probe")

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        if self._place["region_name"] is None and self._key.startswith("arn:"):
            self._place["region_name"] = self._key.split(":")[3]
        waits = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": ATTEMPTS},
        )
        return boto3.client("kms", config=waits, **self._place)

    def opens(self, master: str) -> bool:
        # Whatever KMS wrapped names its key by ARN, so an alias may since name another one.
        return master.startswith(PREFIX)

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        def call() -> tuple[str, bytes]:
            answer = self._client.encrypt(
                KeyId=self._key, Plaintext=key, EncryptionContext=_context(context)
            )
            return answer["KeyId"], answer["CiphertextBlob"]

        arn, wrapped = await asyncio.to_thread(self._asked, call)
        self.id = PREFIX + arn
        return wrapped

    async def unwrap(self, master: str, wrapped: bytes, context: bytes) -> bytes:
        def call() -> bytes:
            answer = self._client.decrypt(
                KeyId=master.removeprefix(PREFIX),
                CiphertextBlob=wrapped,
                EncryptionContext=_context(context),
            )
            plain: bytes = answer["Plaintext"]
            return plain

        return await asyncio.to_thread(self._asked, call)

    def _asked(self, call: Callable[[], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except (BotoCoreError, ClientError, ValueError) as error:
            raise VaultFailed(
                f"master key {PREFIX}{self._key}: {error}; check its name, region and the role's "
                "kms:Encrypt and kms:Decrypt"
            ) from None

    async def close(self) -> None:
        if self._client is not None:
            await asyncio.to_thread(self._client.close)


def _context(context: bytes) -> dict[str, str]:
    return {"trailgate": base64.b64encode(context).decode()}
