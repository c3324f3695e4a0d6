# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a tlog-proof: decoded strictly, and nothing of it believed yet."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.verify.consistency import MOST_HASHES
from gateway.verify.leaves import canonical
from gateway.verify.note import exact_base64

_MOST_LISTED = 1000
_HEAD = re.compile(rb"c2sp\.org/tlog-proof@v1\nextra ([A-Za-z0-9+/=]+)\nindex (0|[1-9]\d{0,18})\n")


class BadProof(Exception):
    """The proof does not hold; the text says why."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parts of a proof; nothing is checked but their form."""

    extra: dict[str, Any]
    index: int
    proof: list[bytes]
    note: bytes


def parse(data: bytes) -> Parsed:
    """Decode strictly: encoding again gives the same bytes. Raises BadProof, NoteError."""
    head = _HEAD.match(data)
    if not head:
        raise BadProof("does not begin as a tlog-proof with an `extra` and an `index` line")
    hashes, found, note = data[head.end() :].partition(b"\n\n")
    if data[head.end() :].startswith(b"\n"):
        hashes, found, note = b"", b"\n", data[head.end() + 1 :]
    lines = hashes.decode("utf-8", "replace").split("\n") if hashes else []
    if not found or len(lines) > MOST_HASHES + 1:
        raise BadProof("has no checkpoint behind an empty line, or too many hashes")
    proof = [exact_base64(line) for line in lines]
    if any(len(hashed) != 32 for hashed in proof):
        raise BadProof("has a hash that is not of 32 bytes")
    return Parsed(_extra(exact_base64(head[1].decode())), int(head[2]), proof, note)


def _extra(data: bytes) -> dict[str, Any]:
    try:
        extra = json.loads(data)
        exact = canonical(extra) == data
    except (ValueError, RecursionError):
        raise BadProof("has an extra line that is not JSON") from None
    if not exact or not isinstance(extra, dict) or extra.get("format") != 1:
        raise BadProof("has an extra line that is not canonical JSON of format 1")
    known = {"format", "vkey", "leaf", "row", "frame", "rotations", "certificates", "last"}
    if not {"vkey", "leaf"} <= extra.keys() <= known:
        raise BadProof("has an extra line with missing or unknown members")
    return extra


def list_of(value: Mapping[str, Any], name: str) -> list[Any]:
    """A list of bounded length; empty where there is none. Raises BadProof."""
    found = value.get(name, [])
    if not isinstance(found, list) or len(found) > _MOST_LISTED:
        raise BadProof(f"has no proper list {name!r}")
    return found


def require(value: Any, members: set[str], name: str) -> None:
    """Exactly these members. Raises BadProof."""
    if not isinstance(value, dict) or value.keys() != members:
        raise BadProof(f"has a {name} with missing or unknown members")


def text_of(value: Mapping[str, Any], name: str) -> str:
    """A member that is text. Raises BadProof."""
    found = value.get(name)
    if not isinstance(found, str):
        raise BadProof(f"has no text {name!r}")
    return found


def count_of(value: Mapping[str, Any], name: str) -> int:
    """A member that counts. Raises BadProof."""
    found = value.get(name)
    if type(found) is not int or not 0 <= found < 1 << 63:
        raise BadProof(f"has no number {name!r}")
    return found


def hashes_of(value: Mapping[str, Any]) -> list[bytes]:
    """The path `proof`, in hex. Raises BadProof."""
    hashes = value.get("proof")
    if not isinstance(hashes, list) or len(hashes) > MOST_HASHES + 1:
        raise BadProof("has no proper list of hashes")
    if not all(isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one) for one in hashes):
        raise BadProof("has a hash that is not of 64 hex digits")
    return [bytes.fromhex(one) for one in hashes]
