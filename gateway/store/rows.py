# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants to rows and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from gateway.model import Ending, Grant, Hop, Identity, StoredGrant
from gateway.store.database import Row

COLUMNS = (
    "id, parent, root, token_sha256, login_sha256, issuer, subject, name, kind, groups, chain,"
    " narrowing, actor_groups, login, issued_at, expires_at, lease_until, minted_in"
)
_NAMES = tuple(name.strip() for name in COLUMNS.split(","))
PLACES = ", ".join(f":{name}" for name in _NAMES)


def to_row(
    grant: Grant, token_sha256: str | None, login_sha256: str | None, lease_until: float | None
) -> dict[str, object]:
    origin = grant.origin
    values = (
        grant.id,
        grant.parent,
        grant.root,
        token_sha256,
        login_sha256,
        origin.issuer,
        origin.subject,
        origin.name,
        origin.kind,
        json.dumps(grant.groups),
        json.dumps([asdict(hop) for hop in grant.chain]),
        json.dumps([dict(entry) for entry in grant.narrowing]),
        json.dumps(grant.actor_groups),
        json.dumps(dict(grant.login)),
        grant.issued_at,
        grant.expires_at,
        lease_until,
        grant.minted_in,
    )
    return dict(zip(_NAMES, values, strict=True))


def from_row(row: Row) -> StoredGrant:
    grant = Grant(
        id=row["id"],
        origin=Identity(row["issuer"], row["subject"], row["name"], row["kind"]),
        groups=tuple(json.loads(row["groups"])),
        chain=tuple(_hop(hop) for hop in json.loads(row["chain"])),
        narrowing=tuple(json.loads(row["narrowing"])),
        parent=row["parent"],
        root=row["root"],
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        login=json.loads(row["login"]),
        actor_groups=tuple(json.loads(row["actor_groups"])),
        minted_in=row["minted_in"],
    )
    return StoredGrant(grant, row["lease_until"], row["revoked_at"], ending_of(row))


def ending_of(row: Row) -> Ending | None:
    if row["revoked_at"] is None:
        return None
    return Ending(row["ended_as"] or "revoked", row["revoked_by"])


def _hop(document: dict[str, Any]) -> Hop:
    identity, groups = document["identity"], tuple(document.get("groups", ()))
    known = Identity(**identity) if identity else None
    return Hop(**{**document, "identity": known, "groups": groups})
