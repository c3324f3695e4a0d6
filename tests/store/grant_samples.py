# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants for the tests of the store."""

from __future__ import annotations

from gateway.model import Grant, Hop, Identity
from gateway.store.grants import StoredGrants


def grant(name: str, parent: str | None = None, expires_at: float = 100.0) -> Grant:
    identity = Identity("corp", "alice", "Alice", "person")
    return Grant(
        id=name,
        origin=identity,
        groups=("dba",),
        chain=(Hop("a", True, Identity("ci", "job", kind="workload"), name, "uid"),),
        narrowing=({"scope": ["orders"]},),
        parent=parent,
        root=parent or name,
        issued_at=1.5,
        expires_at=expires_at,
        login={"iss": "corp", "iat": 1},
        actor_groups=("ci",),
    )


async def add(store: StoredGrants, one: Grant, lease: float | None = None) -> str:
    return await store.add_grant(one, f"sha-{one.id}", lease_until=lease, now=10.0, max_children=64)
