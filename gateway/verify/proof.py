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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.verify.cosigned import cosigned_times
from gateway.verify.findings import CannotCheck
from gateway.verify.inclusion import root_of
from gateway.verify.leaves import LeafError, parse_leaf
from gateway.verify.note import (
    Checkpoint,
    Note,
    NoteError,
    VerifierKey,
    exact_base64,
    own_checkpoint,
    parse_note,
)
from gateway.verify.proof_form import (
    BadProof,
    Parsed,
    count_of,
    hashes_of,
    parse,
    require,
    text_of,
)
from gateway.verify.proof_keys import KeyCheck, keys_of, last_leaf, rfc3339
from gateway.verify.trust import TRUST_CURE, Trust

MOST_PROOF = 4 << 20
_CLEAR = struct.Struct("<5B3x16sQQIqQII32s")
_KINDS = (
    *("", "open", "request", "answer", "sent", "kept"),
    *("event", "close", "gap", "refused", "node"),
)
_ROW = {"index", "frames", "root", "proof"}
_FRAME = {"index", "clear", "proof"}


def verify_proof(path: Path, trust_path: Path | None) -> dict[str, Any]:
    """The verdict as a document. Raises CannotCheck when a file cannot be read at all."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_PROOF + 1)
    except OSError as error:
        cure = "trailgate audit export --format tlog-proof writes one"
        raise CannotCheck(f"{path}: {error.strerror}", cure) from error
    try:
        trust = Trust.load(trust_path) if trust_path else None
    except (OSError, UnicodeDecodeError, NoteError) as error:
        raise CannotCheck(f"the trust file {trust_path}: {error}", TRUST_CURE) from error
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


def _check(parsed: Parsed, trust: Trust | None) -> dict[str, Any]:
    keys, unresolved = keys_of(parsed.extra), list[str]()
    note = parse_note(parsed.note)
    checkpoint = own_checkpoint(note, keys[-1])
    leaf_bytes = text_of(parsed.extra, "leaf").encode()
    if root_of(leaf_bytes, parsed.index, checkpoint.size, parsed.proof) != checkpoint.root:
        raise BadProof("does not lead from its leaf to the root that the checkpoint signs")
    leaf = parse_leaf(leaf_bytes)
    last, check = last_leaf(parsed, checkpoint, leaf), KeyCheck(keys, trust, unresolved)
    certificates = check.check(parsed.extra, checkpoint, last)
    at = _witnessed(note, checkpoint, keys[-1], trust, unresolved)
    if at is not None:
        check.witnessed(certificates, rfc3339(at))
    frame = _frame(parsed.extra, leaf)
    return {
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "index": parsed.index,
        "leaf": leaf,
        "session": frame["session"] if frame else leaf.get("session"),
        "frame": frame,
        "signed_at": last["at"],
        "witnessed_at": None if at is None else rfc3339(at).replace(".000000", ""),
        "unresolved": unresolved,
    }


def _witnessed(
    note: Note, checkpoint: Checkpoint, key: VerifierKey, trust: Trust | None, out: list[str]
) -> int | None:
    """When the quorum had cosigned (POSIX seconds); None where nobody is asked to."""
    others = [one for one in note.signatures if one[1][:4] != key.hash]
    if trust is None or trust.quorum is None:
        return None
    at = trust.witnessed_at(cosigned_times(note.body, others, trust))
    if at is None:
        out.append(f"{checkpoint.origin}: the checkpoint has no cosignatures of the quorum")
    return at


# --- the frame ------------------------------------------------------------------------------------


def _frame(extra: Mapping[str, Any], leaf: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the frame says in the clear, once it is bound to the leaf."""
    frame, row = extra.get("frame"), extra.get("row")
    if frame is None:
        if row is not None:
            raise BadProof("has a row of progress and no frame")
        return None
    require(frame, _FRAME, "frame")
    clear = exact_base64(text_of(frame, "clear"))
    session, document = _told(clear)
    if row is None:
        if leaf["type"] != "close" or leaf["session"] != session:
            raise BadProof("has a frame, and its leaf closes another session or none")
        frames, root = leaf["frames"], leaf["root"]
    else:
        frames, root = _row(row, leaf, session)
    led = root_of(clear, count_of(frame, "index"), frames, hashes_of(frame))
    if led is None or led.hex() != root:
        raise BadProof("does not lead from its frame to the session's root")
    return document


def _row(row: Any, leaf: Mapping[str, Any], session: str) -> tuple[int, str]:
    """Frames and root of a session as a progress leaf counts them."""
    require(row, _ROW, "row")
    if leaf["type"] != "progress":
        raise BadProof("has a row, and its leaf is no progress")
    frames, root = count_of(row, "frames"), text_of(row, "root")
    if not re.fullmatch("[0-9a-f]{64}", root):
        raise BadProof("has a row without a root")
    told = _raw(session) + frames.to_bytes(8, "little") + bytes.fromhex(root)
    led = root_of(told, count_of(row, "index"), leaf["sessions"], hashes_of(row))
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
