# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's own tokens: opaque handles, of which only the SHA-256 is ever kept."""

from __future__ import annotations

import base64
import hashlib
import secrets
import zlib

from gateway.identity.refusal import refused

PREFIX = "tg_"
BODY = 43
"""32 random bytes in base64url."""
CHECK = 6
"""CRC-32 of the 43 characters, big-endian, in base64url: tells a mistyped handle from a wrong one,
and lets secret scanners find handles without asking us."""
LENGTH = len(PREFIX) + BODY + CHECK


def new_handle() -> str:
    """`tg_`, 256 random bits, six check characters."""
    body = secrets.token_urlsafe(32)
    return PREFIX + body + check_characters(body)


def check_characters(body: str) -> str:
    crc = zlib.crc32(body.encode("ascii")).to_bytes(4, "big")
    return base64.urlsafe_b64encode(crc).decode("ascii").rstrip("=")


def is_handle(token: str) -> bool:
    return token.startswith(PREFIX)


def handle_sha256(handle: str) -> str:
    """What the store finds a handle by. Raises Refused for one that we cannot have given."""
    body, check = handle[len(PREFIX) : -CHECK], handle[-CHECK:]
    if len(handle) != LENGTH or not handle.isascii() or not is_handle(handle):
        raise refused("the gateway token is not whole: check that it was copied to its end")
    if check_characters(body) != check:
        raise refused("the gateway token is mistyped or was altered (its check characters differ)")
    return token_sha256(handle)


def token_sha256(token: str) -> str:
    """SHA-256 of any token, in hex: how a token is named where it must not appear."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
