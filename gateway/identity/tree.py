# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants as documents, nested as they were handed down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.model import StoredGrant


def rfc3339(at: float | None) -> str | None:
    """A time of the store as people and machines read it."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def state_of(stored: StoredGrant, now: float) -> str:
    """live, revoked, lapsed, ended or expired."""
    if stored.ending is not None:
        return stored.ending.how
    if stored.grant.expires_at <= now:
        return "expired"
    if stored.lease_until is not None and stored.lease_until <= now:
        return "lapsed"
    return "live"


def grant_document(stored: StoredGrant, now: float) -> dict[str, Any]:
    grant, state = stored.grant, state_of(stored, now)
    return {
        "grant": grant.id,
        "parent": grant.parent,
        "actor": grant.labels[-1],
        "proved": grant.chain[-1].proved if grant.chain else True,
        "depth": len(grant.chain),
        "isolation": grant.chain[-1].isolation if grant.chain else "none",
        "origin": grant.origin.label,
        "issuer": grant.origin.issuer,
        "subject": grant.origin.subject,
        "chain": list(grant.labels),
        "groups": list(grant.groups),
        "narrowing": [dict(entry) for entry in grant.narrowing],
        "state": state,
        "issued": rfc3339(grant.issued_at),
        "expires": rfc3339(grant.expires_at),
        "lease_until": rfc3339(stored.lease_until),
        "ended": rfc3339(stored.ended_at),
        "revoked": rfc3339(stored.ended_at) if state == "revoked" else None,
        "revoked_by": stored.ending.by if stored.ending and state == "revoked" else None,
    }


def grant_tree(
    stored: Sequence[StoredGrant], now: float, sessions: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Grants (parents first) nested under `children`; those whose parent is not given are tops.

    `sessions`: how many are open here, by grant.
    """
    live = sessions or {}
    documents: dict[str, dict[str, Any]] = {}
    tops: list[dict[str, Any]] = []
    for one in stored:
        document = grant_document(one, now)
        document |= {"sessions": live.get(one.grant.id, 0), "children": []}
        documents[one.grant.id] = document
        above = documents.get(one.grant.parent or "")
        (tops if above is None else above["children"]).append(document)
    return tops
