# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers ask to be declared, and what comes of it. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.config.objects import KINDS, plural

ALL_KINDS = (*KINDS, "policy")
BY_PLURAL = {plural(kind): kind for kind in ALL_KINDS}

Action = Literal["create", "update", "delete", "none"]


@dataclass(frozen=True, slots=True)
class Author:
    """Who asks: for people, and for the record with the whole chain."""

    label: str
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object as it is to be; without a document it is to go.

    `match`: the entity tags of which one must be the object's now (`*`: it must be there), None:
    whatever it is. `absent`: it must not be there yet (If-None-Match: *).
    """

    kind: str
    name: str
    document: Mapping[str, Any] | None
    match: tuple[str, ...] | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """Objects to declare together, or not at all.

    `adopt` takes objects over from another `managed_by`; `prune` deletes what the same
    `managed_by` declared before and is not among these.
    """

    wanted: Sequence[Wanted]
    managed_by: str
    author: Author
    adopt: bool = False
    prune: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """An object as the API shows it; no secret is in it. Version 0: it stands in a file."""

    kind: str
    name: str
    document: Mapping[str, Any]
    version: int
    etag: str
    managed_by: str
    changed_by: str | None = None
    changed_at: float | None = None
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an order does to one object. `secret`: it is given a new secret."""

    action: Action
    kind: str
    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    secret: bool = False
    object: Shown | None = None
    """As it is now; None once it is gone, and in a dry run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    changes: tuple[Change, ...]
    revision: int


class Rejected(Exception):
    """Nothing was changed. `status` is the HTTP status that fits; `findings` name each mistake:
    object, pointer (RFC 6901) or file and line, detail, cure."""

    def __init__(
        self, status: int, detail: str, findings: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.findings = tuple(findings)

    def told(self) -> str:
        """All of it in one text, for a log."""
        lines = [self.detail]
        for one in self.findings:
            place = one.get("object") or one.get("file")
            lines.append(f"{place}: {one['detail']}" if place else str(one["detail"]))
        return "\n".join(lines)
