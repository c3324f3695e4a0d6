# SPDX-License-Identifier: GPL-3.0-or-later
"""DATA/journal/state.json: from where on recovery has to read. Not evidence: it never ships.

It says how things stood when journal file `file` began. It is written once the log has signed every
leaf before that moment; until then no journal file is dropped that a recovery would need.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gateway.model import RecordFailed
from gateway.record import durable
from gateway.record.frames import canonical

_NAME = "state.json"


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that was open: `frames` of it were written, `peaks` is its tree."""

    session: str
    frames: int
    peaks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class State:
    """How things stood before the first frame of journal file `file`."""

    file: int = 0
    leaves: int = 0
    """Leaves of the log so far."""
    ordinal: int = 0
    """The next session's."""
    segments: tuple[int, ...] = ()
    """Journal files whose segment leaf is among those leaves, though the file may be here still."""
    sessions: tuple[OpenSession, ...] = ()
    boot: str = ""
    """Of the machine: while it is the same, no page that was written can be lost."""

    def write(self, folder: Path) -> None:
        """Replace what is there. Raises OSError. Blocks."""
        sessions = [
            [one.session, one.frames, [peak.hex() for peak in one.peaks]] for one in self.sessions
        ]
        data = canonical(
            {
                "format": 1,
                "file": self.file,
                "leaves": self.leaves,
                "ordinal": self.ordinal,
                "segments": list(self.segments),
                "sessions": sessions,
                "boot": self.boot,
            }
        )
        durable.put(folder / _NAME, data, folder / f".{_NAME}", 0o600)

    @staticmethod
    def read(folder: Path) -> State | None:
        """None when there is none. Raises RecordFailed, OSError."""
        path = folder / _NAME
        try:
            fields = json.loads(path.read_bytes())
            sessions = tuple(
                OpenSession(session, frames, tuple(bytes.fromhex(peak) for peak in peaks))
                for session, frames, peaks in fields["sessions"]
            )
            return State(
                fields["file"], fields["leaves"], fields["ordinal"],
                tuple(fields["segments"]), sessions, fields["boot"],
            )  # fmt: skip
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise RecordFailed(
                f"{path}: is damaged: restore it, or move DATA/node and DATA/journal away, and the "
                "node starts a new log"
            ) from None


def boot_id() -> str:
    """Another one after every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
