# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verification found, and its verdict as one JSON document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MOST_DEFECTS = 1000
Progress = Callable[[str, int, int], None]
"""Called with what is being read, bytes done and bytes in all."""


class CannotCheck(Exception):
    """The evidence could not be read at all: no verdict. `cure`: what to do next."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong. `object` is a path below the evidence root (or `keys/...`)."""

    object: str
    kind: str
    detail: str


@dataclass(slots=True)
class Findings:
    """Collects; the first defect stays first."""

    defects: list[Defect] = field(default_factory=list)
    defect_count: int = 0
    trust: str = "none"
    trusted_by: list[str] = field(default_factory=list)
    content: str = "unopened"
    since: str | None = None
    until: str | None = None
    complete_to: str | None = None
    witnessed_to: str | None = None
    logs: int = 0
    sessions: int = 0
    grants: int = 0
    """Closed records of grants."""
    frames: int = 0
    bytes: int = 0
    open: list[str] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    """Sessions whose key was erased, as the log says."""
    expired: list[str] = field(default_factory=list)
    """Sessions, and segments, whose retention is over."""
    unresolved: list[str] = field(default_factory=list)

    def defect(self, object_name: str, kind: str, detail: str) -> None:
        """Note one defect; beyond MOST_DEFECTS they are only counted."""
        self.defect_count += 1
        if len(self.defects) < MOST_DEFECTS:
            self.defects.append(Defect(object_name, kind, detail))

    def add_defects(self, others: list[Defect]) -> None:
        for other in others:
            self.defect(other.object, other.kind, other.detail)

    @property
    def exit_code(self) -> int:
        """0 sound, 1 defect, 2 could not check, or something stays unresolved or lost."""
        if self.defect_count:
            return 1
        return 2 if self.unresolved or self.lost else 0

    def document(self) -> dict[str, Any]:
        """The document that `-o json` prints."""
        shown = [{"object": d.object, "kind": d.kind, "detail": d.detail} for d in self.defects]
        if self.defect_count > len(shown):
            left = self.defect_count - len(shown)
            shown[-1]["detail"] += f" (and {left} more defects that are not listed)"
        return {
            "ok": self.exit_code == 0,
            "trust": self.trust,
            "trusted_by": self.trusted_by,
            "content": self.content,
            "range": {"since": self.since, "until": self.until},
            "complete_to": None if self.defect_count else self.complete_to,
            "witnessed_to": None if self.defect_count else self.witnessed_to,
            "checked": {
                "logs": self.logs,
                "sessions": self.sessions,
                "grants": self.grants,
                "frames": self.frames,
                "bytes": self.bytes,
            },
            "open": sorted(self.open),
            "pending": self.pending,
            "lost": sorted(self.lost),
            "gaps": self.gaps,
            "erased": sorted(self.erased),
            "expired": sorted(self.expired),
            "unresolved": self.unresolved,
            "defects": shown,
        }
