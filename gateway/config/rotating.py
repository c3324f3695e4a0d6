# SPDX-License-Identifier: GPL-3.0-or-later
"""`rotation` of a credential: how its secret is changed, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from gateway.config.reading import Wrong, nearest
from gateway.credentials.rotation import discover
from gateway.model import RotationPlan

if TYPE_CHECKING:
    from gateway.config.objects import CredentialObject

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SECONDS = 3650 * 86400
LEAST_EVERY_SECONDS = 60


class Span(float):
    """`90s`, `15m`, `8h`, `30d`: a length of time, in seconds."""

    @classmethod
    def parse(cls, text: str) -> Self:
        found = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
        if found is None or int(found[1]) * UNITS[found[2]] > LONGEST_SECONDS:
            raise Wrong(f"{text!r} is no length of time; write 90s, 15m, 8h or 30d")
        return cls(int(found[1]) * UNITS[found[2]])


@dataclass(frozen=True, slots=True)
class RotationObject:
    """How a secret is changed. Without `every`, only on command."""

    kind: str
    mode: Literal["single-user", "two-user"] = "single-user"
    users: tuple[str, ...] = ()
    by: str | None = None
    target: str | None = None
    every: Span | None = None
    grace: Span = Span(900)

    def __post_init__(self) -> None:
        if self.mode == "two-user" and (len(self.users) != 2 or len(set(self.users)) != 2):
            raise Wrong("two-user needs two users; write users: [app_a, app_b]", "users")
        if self.mode == "single-user" and self.users:
            raise Wrong("single-user has no users; remove them or write mode: two-user", "users")
        if not all(self.users):
            raise Wrong("a user has no name; write users: [app_a, app_b]", "users")
        if self.every is not None and self.every < max(LEAST_EVERY_SECONDS, self.grace):
            raise Wrong("is shorter than a minute or than the grace; write more", "every")

    def model(self) -> RotationPlan:
        every = None if self.every is None else float(self.every)
        return RotationPlan(
            self.kind, self.mode, self.users, self.by or "", self.target or "", every,
            float(self.grace),
        )  # fmt: skip


def rotation_complaints(
    one: CredentialObject, names: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """What is wrong with a credential's rotation, and the cure."""
    rotation = one.rotation
    assert rotation is not None
    kinds = discover()
    kind = kinds.get(rotation.kind)
    if kind is None:
        yield f".kind: {rotation.kind!r} is no kind of rotation", nearest(rotation.kind, kinds)
    elif one.login not in kind.logins:
        yield f": login {one.login} cannot be rotated", f"use {' or '.join(sorted(kind.logins))}"
    if rotation.by is not None and rotation.by not in names["credential"]:
        yield f".by: no credential {rotation.by!r}", nearest(rotation.by, names["credential"])
    if rotation.by == one.credential:
        yield ".by: names the credential itself", "remove by: it changes its own secret without"
    if rotation.target is not None and rotation.target not in names["target"]:
        yield f".target: no target {rotation.target!r}", nearest(rotation.target, names["target"])
