# SPDX-License-Identifier: GPL-3.0-or-later
"""One proof (C2SP tlog-proof): that a log holds a session, or one frame of it. No record needed.

What the `extra` line says is bound to the log by the proof: the leaf by its hash, a progress row
and the frame by their own paths to roots that the leaf signs.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.verify.authority import judge
from gateway.verify.certificate import Certificate, open_certificate
from gateway.verify.consistency import MOST_HASHES
from gateway.verify.cosigned import cosigned_times
from gateway.verify.findings import CannotCheck
from gateway.verify.inclusion import root_of
from gateway.verify.keychain import new_key
from gateway.verify.leaves import LeafError, canonical, parse_leaf
from gateway.verify.note import (
    Checkpoint,
    Note,
    NoteError,
    VerifierKey,
    exact_base64,
    own_checkpoint,
    parse_note,
)
from gateway.verify.trust import Trust

MOST_PROOF = 4 << 20
_MOST_LISTED = 1000
_HEAD = re.compile(rb"c2sp\.org/tlog-proof@v1\nextra ([A-Za-z0-9+/=]+)\nindex (0|[1-9]\d{0,18})\n")
_CLEAR = struct.Struct("<5B3x16sQQIqQII32s")
_KINDS = (
    *("", "open", "request", "answer", "sent", "kept"),
    *("event", "close", "gap", "refused", "node"),
)
_ROW = {"index", "frames", "root", "proof"}
_FRAME = {"index", "clear", "proof"}


class BadProof(Exception):
    """The proof does not hold; the text says why."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parts of a proof; nothing is checked but their form."""

    extra: dict[str, Any]
    index: int
    proof: list[bytes]
    note: bytes


def verify_proof(path: Path, trust_path: Path | None) -> dict[str, Any]:
    """The verdict as a document. Raises CannotCheck when a file cannot be read at all."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_PROOF + 1)
        trust = Trust.load(trust_path) if trust_path else None
    except (OSError, UnicodeDecodeError, NoteError) as error:
        raise CannotCheck(f"{error}") from error
    document: dict[str, Any] = {"ok": False, "trust": "pinned" if trust else "none"}
    try:
        if len(data) > MOST_PROOF:
            raise BadProof(f"is larger than the {MOST_PROOF} bytes that a proof may have")
        document |= _check(parse(data), trust)
    except (BadProof, NoteError, LeafError) as error:
        defect = {"object": path.name, "kind": "proof", "detail": str(error)}
        return {**document, "unresolved": [], "defects": [defect]}
    document["ok"] = not document["unresolved"]
    return {**document, "defects": []}


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
    known = {"format", "vkey", "leaf", "row", "frame", "rotations", "certificates"}
    if not {"vkey", "leaf"} <= extra.keys() <= known:
        raise BadProof("has an extra line with missing or unknown members")
    return extra


def _check(parsed: Parsed, trust: Trust | None) -> dict[str, Any]:
    keys = _keys(parsed.extra)
    note = parse_note(parsed.note)
    checkpoint = own_checkpoint(note, keys[-1])
    leaf_bytes = _string(parsed.extra, "leaf").encode()
    if root_of(leaf_bytes, parsed.index, checkpoint.size, parsed.proof) != checkpoint.root:
        raise BadProof("does not lead from its leaf to the root that the checkpoint signs")
    leaf = parse_leaf(leaf_bytes)
    _trusted(parsed.extra, keys, leaf["at"], trust)
    unresolved: list[str] = []
    frame = _frame(parsed.extra, leaf)
    return {
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "index": parsed.index,
        "leaf": leaf,
        "session": frame["session"] if frame else leaf.get("session"),
        "frame": frame,
        "witnessed_at": _witnessed(note, checkpoint, keys[-1], trust, unresolved),
        "unresolved": unresolved,
    }


def _keys(extra: Mapping[str, Any]) -> list[VerifierKey]:
    """The log's keys to the one that signed the checkpoint, each handed over by the one before."""
    keys = [VerifierKey.parse(_string(extra, "vkey"))]
    for rotation in _list(extra, "rotations"):
        _require(rotation, {"new", "by_old", "by_new"}, "rotation")
        keys.append(new_key(rotation, keys[-1]))
    return keys


def _trusted(
    extra: Mapping[str, Any], keys: list[VerifierKey], at: str, trust: Trust | None
) -> None:
    """That the trust file names one of the keys, or that its root certified the last one."""
    if trust is None:
        _certificates(extra, keys[-1], [])
        return
    certificates = _certificates(extra, keys[-1], list(trust.roots.values()))
    if any(key in keys for key in trust.keys.get(keys[0].name, ())):
        return
    if not trust.roots:
        raise BadProof(f"is signed by a key for {keys[0].name} that the trust file does not name")
    certificates = [one for one in (*certificates, *trust.certificates) if one.key == keys[-1]]
    # The checkpoint is of the leaf's time or of a later one, at which its key may be newer.
    begins = min((one.not_before for one in certificates), default="")
    kind, detail = judge(keys[-1], max(at, begins), certificates)
    if kind:
        raise BadProof(f"has a checkpoint that {detail} ({kind})")


def _certificates(
    extra: Mapping[str, Any], key: VerifierKey, roots: list[VerifierKey]
) -> list[Certificate]:
    found = []
    for text in _list(extra, "certificates"):
        one = open_certificate(str(text).encode(), roots)
        if one.key != key:
            raise BadProof("has a certificate of another key than its checkpoint's")
        found.append(one)
    return found


def _list(extra: Mapping[str, Any], name: str) -> list[Any]:
    found = extra.get(name, [])
    if not isinstance(found, list) or len(found) > _MOST_LISTED:
        raise BadProof(f"has no proper list {name!r}")
    return found


def _witnessed(
    note: Note, checkpoint: Checkpoint, key: VerifierKey, trust: Trust | None, out: list[str]
) -> str | None:
    """When the quorum had cosigned; None where nobody is asked to."""
    others = [one for one in note.signatures if one[1][:4] != key.hash]
    if trust is None or trust.quorum is None:
        return None
    at = trust.witnessed_at(cosigned_times(note.body, others, trust))
    if at is None:
        out.append(f"{checkpoint.origin}: the checkpoint has no cosignatures of the quorum")
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- the frame ------------------------------------------------------------------------------------


def _frame(extra: Mapping[str, Any], leaf: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the frame says in the clear, once it is bound to the leaf."""
    frame, row = extra.get("frame"), extra.get("row")
    if frame is None:
        if row is not None:
            raise BadProof("has a row of progress and no frame")
        return None
    _require(frame, _FRAME, "frame")
    clear = exact_base64(_string(frame, "clear"))
    session, document = _told(clear)
    if row is None:
        if leaf["type"] != "close" or leaf["session"] != session:
            raise BadProof("has a frame, and its leaf closes another session or none")
        frames, root = leaf["frames"], leaf["root"]
    else:
        frames, root = _row(row, leaf, session)
    led = root_of(clear, _count(frame, "index"), frames, _hashes(frame))
    if led is None or led.hex() != root:
        raise BadProof("does not lead from its frame to the session's root")
    return document


def _row(row: Any, leaf: Mapping[str, Any], session: str) -> tuple[int, str]:
    """Frames and root of a session as a progress leaf counts them."""
    _require(row, _ROW, "row")
    if leaf["type"] != "progress":
        raise BadProof("has a row, and its leaf is no progress")
    frames, root = _count(row, "frames"), _string(row, "root")
    if not re.fullmatch("[0-9a-f]{64}", root):
        raise BadProof("has a row without a root")
    told = _raw(session) + frames.to_bytes(8, "little") + bytes.fromhex(root)
    led = root_of(told, _count(row, "index"), leaf["sessions"], _hashes(row))
    if led is None or led.hex() != leaf["root"]:
        raise BadProof("does not lead from its row to the root of the progress leaf")
    return frames, root


def _told(clear: bytes) -> tuple[str, dict[str, Any]]:
    """The session, and the clear part as a document."""
    if len(clear) < _CLEAR.size:
        raise BadProof("has a frame that is too short")
    (format_, kind, _, _, _, session, sequence, operation, _, wall, _, meta, payload,
     digest) = _CLEAR.unpack_from(clear)  # fmt: skip
    if format_ != 1 or not 0 < kind < len(_KINDS) or len(clear) != _CLEAR.size + meta:
        raise BadProof("has a frame that is not of this format")
    try:
        metadata = json.loads(clear[_CLEAR.size :])
    except (ValueError, RecursionError):
        raise BadProof("has a frame whose metadata is not JSON") from None
    text = base64.b32encode(session).decode().rstrip("=").lower()
    return text, {
        "session": text,
        "sequence": sequence,
        "kind": _KINDS[kind],
        "operation": operation,
        "at": datetime.fromtimestamp(wall // 10**9 % (1 << 33), UTC).isoformat(),
        "meta": metadata,
        "payload_bytes": payload,
        "digest": digest.hex(),
    }


def _raw(session: str) -> bytes:
    return base64.b32decode(session.upper() + "======")


def _require(value: Any, members: set[str], name: str) -> None:
    if not isinstance(value, dict) or value.keys() != members:
        raise BadProof(f"has a {name} with missing or unknown members")


def _string(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise BadProof(f"has no text {name!r}")
    return found


def _count(value: Mapping[str, Any], name: str) -> int:
    found = value.get(name)
    if type(found) is not int or not 0 <= found < 1 << 63:
        raise BadProof(f"has no number {name!r}")
    return found


def _hashes(value: Mapping[str, Any]) -> list[bytes]:
    hashes = value.get("proof")
    if not isinstance(hashes, list) or len(hashes) > MOST_HASHES + 1:
        raise BadProof("has no proper list of hashes")
    if not all(isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one) for one in hashes):
        raise BadProof("has a hash that is not of 64 hex digits")
    return [bytes.fromhex(one) for one in hashes]
