# SPDX-License-Identifier: GPL-3.0-or-later
"""Cosigned checkpoints in the evidence, and the checkpoints that somebody else was shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.verify.note import (
    Checkpoint,
    NoteError,
    VerifierKey,
    cosigned_at,
    own_checkpoint,
    parse_note,
)
from gateway.verify.trust import Trust


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint, and when the quorum had cosigned it (POSIX seconds); None: it had not."""

    checkpoint: Checkpoint
    witnessed_at: int | None


def open_cosigned(data: bytes, key: VerifierKey, trust: Trust | None) -> Cosigned:
    """A cosigned checkpoint as the evidence has it: the log's line first, then the witnesses'.

    Where the trust file names witnesses, a line of anybody else is refused: nothing that nobody
    vouches for may lie in evidence. Raises NoteError.
    """
    note = parse_note(data)
    if len(note.signatures) < 2 or note.signatures[0][0] != key.name:
        raise NoteError("is not a checkpoint that is signed by its log first and then cosigned")
    checkpoint = own_checkpoint(note, key)
    others = note.signatures[1:]
    if trust is None or not trust.witnesses:
        return Cosigned(checkpoint, None)
    return Cosigned(checkpoint, trust.witnessed_at(cosigned_times(note.body, others, trust)))


def cosigned_times(
    body: bytes, signatures: Sequence[tuple[str, bytes]], trust: Trust
) -> dict[str, int]:
    """POSIX seconds by the witness's name in the policy.

    Raises NoteError for a signature of anybody whom the trust file does not name.
    """
    times: dict[str, int] = {}
    for name, signature in signatures:
        known = [
            one
            for one, other in trust.witnesses.items()
            if (other.name, other.hash) == (name, signature[:4])
        ]
        if not known:
            raise NoteError(f"is cosigned by {name}, which the trust file does not name")
        for one in known:
            times[one] = cosigned_at(body, signature, trust.witnesses[one])
    return times


def origin_of(data: bytes) -> str:
    """The first line of a note: which log it says it is of."""
    return data.split(b"\n", 1)[0].decode("utf-8", "replace")


def size_of(data: bytes) -> int:
    """The second line of a checkpoint: how many leaves it says it is of; 0 for anything else."""
    lines = data.split(b"\n", 2)
    return int(lines[1]) if len(lines) > 1 and re.fullmatch(rb"[0-9]{1,19}", lines[1]) else 0
