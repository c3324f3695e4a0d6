# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the key that signed a proof's checkpoint was the log's at that time, and vouched for.

The time of a checkpoint is that of its last leaf, as in whole evidence. So a proof carries that
leaf too: an old leaf under a new checkpoint must not lend its time to a key that has expired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.verify.authority import judge
from gateway.verify.certificate import Certificate, UnknownRoot, open_certificate
from gateway.verify.cosigned import origin_of, size_of
from gateway.verify.inclusion import root_of
from gateway.verify.keychain import new_key
from gateway.verify.leaves import parse_leaf
from gateway.verify.note import Checkpoint, VerifierKey, own_checkpoint, parse_note
from gateway.verify.proof_form import BadProof, Parsed, hashes_of, list_of, require, text_of
from gateway.verify.trust import Trust


def keys_of(extra: Mapping[str, Any]) -> list[VerifierKey]:
    """The log's keys to the one that signed the checkpoint, each handed over by the one before.

    Raises BadProof, NoteError.
    """
    keys = [VerifierKey.parse(text_of(extra, "vkey"))]
    for rotation in list_of(extra, "rotations"):
        require(rotation, {"new", "by_old", "by_new"}, "rotation")
        keys.append(new_key(rotation, keys[-1]))
    return keys


def last_leaf(parsed: Parsed, checkpoint: Checkpoint, leaf: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint's last leaf, which is `leaf` itself or proved beside it.

    Raises BadProof, LeafError.
    """
    last = parsed.extra.get("last")
    if parsed.index == checkpoint.size - 1:
        if last is not None:
            raise BadProof("has a last leaf besides its own, which is the last one")
        return dict(leaf)
    if last is None:
        raise BadProof("has no last leaf, by which its checkpoint is dated: export it once more")
    require(last, {"leaf", "proof"}, "last leaf")
    data, size = text_of(last, "leaf").encode(), checkpoint.size
    if root_of(data, size - 1, size, hashes_of(last)) != checkpoint.root:
        raise BadProof("does not lead from its last leaf to the root that the checkpoint signs")
    return parse_leaf(data)


class KeyCheck:
    """Judges the key of one checkpoint by a trust file; `unresolved` takes what nobody can tell."""

    def __init__(
        self, keys: Sequence[VerifierKey], trust: Trust | None, unresolved: list[str]
    ) -> None:
        self._keys = keys
        self._trust = trust
        self._unresolved = unresolved

    def check(
        self, extra: Mapping[str, Any], checkpoint: Checkpoint, last: Mapping[str, Any]
    ) -> list[Certificate]:
        """The certificates of the checkpoint's key that count. Raises BadProof, NoteError."""
        if last["type"] == "rotation" and last["new"] != self._keys[-1].text():
            raise BadProof("is signed by a key that its last leaf retired")
        certificates, trust = self._certificates(extra), self._trust
        if trust is None:
            return []
        self._seen(trust, checkpoint)
        if any(key in self._keys for key in trust.keys.get(checkpoint.origin, ())):
            return []
        if not trust.roots or checkpoint.origin in trust.keys:
            raise BadProof(f"is signed by a key for {checkpoint.origin} that the trust file "
                           "does not name")  # fmt: skip
        kind, detail = judge(self._keys[-1], last["at"], certificates)
        if kind:
            raise BadProof(f"has a checkpoint that {detail} ({kind})")
        return certificates

    def witnessed(self, certificates: list[Certificate], at: str) -> None:
        """A last leaf can be dated back by whoever has an expired key; a witness's time cannot."""
        if certificates and judge(self._keys[-1], at, certificates)[0] == "expired":
            self._unresolved.append(
                f"{self._keys[-1].name}: the checkpoint was cosigned at {at}, when its key's "
                "certificate had ended, though its last leaf is older"
            )

    def _certificates(self, extra: Mapping[str, Any]) -> list[Certificate]:
        """Those that the proof carries, less what no trusted root signed, and the trust file's."""
        key, trust = self._keys[-1], self._trust or Trust()
        found = [one for one in trust.certificates if one.key == key]
        for text in list_of(extra, "certificates"):
            try:
                one = open_certificate(str(text).encode(), trust.roots.values())
            except UnknownRoot as error:
                self._unresolved.append(f"{key.name}: a certificate {error}")
                continue
            if one.key != key:
                raise BadProof("has a certificate of another key than its checkpoint's")
            found.append(one)
        return found

    def _seen(self, trust: Trust, checkpoint: Checkpoint) -> None:
        """What the witness itself saw: its log's newest key, and the root at that size."""
        for data in trust.seen:
            size = size_of(data)
            if origin_of(data) != checkpoint.origin or size > checkpoint.size:
                continue
            seen = self._as_ours(data)
            if seen is None:
                raise BadProof(f"is signed by a key that was retired, or never the log's: the "
                               f"witness saw {size} leaves under another one")  # fmt: skip
            if size == checkpoint.size and seen.root != checkpoint.root:
                raise BadProof(f"has another root than the {size} leaves that the witness saw")

    def _as_ours(self, data: bytes) -> Checkpoint | None:
        """The checkpoint, if one of the proof's keys signed it."""
        note = parse_note(data)
        for key in self._keys:
            if any((key.name, key.hash) == (name, one[:4]) for name, one in note.signatures):
                return own_checkpoint(note, key)
        return None


def rfc3339(seconds: int) -> str:
    """A witness's time as leaves write times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
