# SPDX-License-Identifier: GPL-3.0-or-later
"""Grants over HTTP: one's own, the tree below it, leases, revocation, and local root grants."""

from __future__ import annotations

from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.api.calls import (
    admin_only,
    caller_of,
    json_of,
    label_of,
    query_of,
    services_of,
)
from gateway.admin.api.problems import Problem
from gateway.admin.api.reads import note_read
from gateway.declare.rights import Right
from gateway.identity.delegation import BOUNDS, LONGEST
from gateway.identity.grants import Grants
from gateway.identity.tree import grant_tree, rfc3339
from gateway.model import Grant, Identity

LOCAL_ISSUER = "trailgate:local"
"""Issuer of identities that the admin socket vouches for."""
DEFAULT_LIFETIME = 3600.0
DEFAULT_LEASE = 60.0
TEXT_CAP = 256
GROUPS_CAP = 64
HOW = ("revoked", "ended")
"""That a caller can say of a grant that it ends: taken back, or its work is done."""


async def own_grant(request: Request) -> Response:
    """GET /api/v1/self: what the caller's token stands for, and the targets it may try."""
    caller = await caller_of(request)
    services = services_of(request)
    targets = services.targets.reachable(caller)
    return JSONResponse(
        {
            "grant": caller.id if caller else None,
            "chain": list(caller.labels) if caller else ["admin"],
            "origin": _identity(caller.origin) if caller else None,
            "expires": rfc3339(caller.expires_at) if caller else None,
            "url": services.url,
            "ca_pem": services.ca_pem or None,
            "targets": [dict(target) for target in targets],
        }
    )


def _identity(identity: Identity) -> dict[str, str]:
    return {
        "issuer": identity.issuer,
        "subject": identity.subject,
        "name": identity.name,
        "kind": identity.kind,
    }


async def tree(request: Request) -> Response:
    """GET /api/v1/grants: the caller's subtree; with read_sessions or operate everywhere, all."""
    caller = await caller_of(request)
    services = services_of(request)
    grants, rights = services.grants, services.rights
    everywhere = any(rights.everywhere(caller, right) for right in ("read_sessions", "operate"))
    found = await grants.visible(None if everywhere else caller)
    note_read(request, caller, "grants", len(found))
    sessions = Counter(str(one["grant"]) for one in await services.sessions.live())
    return JSONResponse(grant_tree(found, grants.now(), sessions))


async def revoke(request: Request) -> Response:
    """DELETE /api/v1/grants/ID?as=revoked|ended, by an ancestor, or by the right operate
    everywhere; again is no error."""
    caller = await _governing_caller(request, "operate")
    how = query_of(request, {"as"}).get("as", HOW[0])
    if how not in HOW:
        raise Problem(400, f"as must be one of {', '.join(HOW)}")
    grant_id = request.path_params["id"]
    by = label_of(caller)
    revoked = await services_of(request).grants.revoke(grant_id, by, f"{how} by {by}", how)
    return JSONResponse({"revoked": list(revoked)})


async def renew_lease(request: Request) -> Response:
    """POST /api/v1/grants/ID/lease {"seconds": 60}, by an ancestor or an admin."""
    caller = await _governing_caller(request)
    seconds = _seconds(await json_of(request, {"seconds"}), "seconds", DEFAULT_LEASE)
    grant_id = request.path_params["id"]
    grants = services_of(request).grants
    until = await grants.renew_lease(grant_id, seconds, label_of(caller))
    if until is None:
        raise Problem(409, await _not_renewed(grants, grant_id))
    return JSONResponse(
        {
            "grant": grant_id,
            "lease_until": rfc3339(until),
            "lease_seconds": grants.bounded_lease(seconds),
        }
    )


async def _not_renewed(grants: Grants, grant_id: str) -> str:
    stored = await grants.store.grant_by_id(grant_id)
    if stored is not None and stored.ending is not None:
        return stored.ending.told
    if stored is not None and stored.lease_until is None:
        return "the grant has no lease: it lives until it expires"
    return "the grant's lease cannot be renewed: it, or a grant above it, is not in force any more"


async def _governing_caller(request: Request, right: Right | None = None) -> Grant | None:
    """The caller, if it stands above the grant named, or has `right` everywhere. To others the
    grant does not exist."""
    caller = await caller_of(request)
    services = services_of(request)
    grants, grant_id = services.grants, request.path_params["id"]
    known = (
        await grants.store.grant_by_id(grant_id) is not None
        if caller is None or (right and services.rights.everywhere(caller, right))
        else await grants.governs(caller, grant_id)
    )
    if not known:
        raise Problem(404, "no grant below yours has this id")
    return caller


async def mint_root(request: Request) -> Response:
    """POST /api/v1/token: a root grant for someone that this machine vouches for."""
    await admin_only(request)
    asked = await json_of(request, {"subject", "name", "groups", "kind", "expires_in"})
    identity = Identity(
        LOCAL_ISSUER,
        _text(asked, "subject"),
        _text(asked, "name", ""),
        _kind(asked),
    )
    lifetime = _seconds(asked, "expires_in", DEFAULT_LIFETIME)
    minted = await services_of(request).grants.mint_root(identity, _groups(asked), lifetime)
    grant = minted.grant
    return JSONResponse(
        {
            "token": minted.token,
            "grant": grant.id,
            "expires": rfc3339(grant.expires_at),
            "chain": list(grant.labels),
        },
        headers={"cache-control": "no-store"},
    )


def _text(asked: dict[str, Any], name: str, default: str | None = None) -> str:
    value = asked.get(name, default)
    if not isinstance(value, str) or len(value) > TEXT_CAP or not value.isprintable():
        raise Problem(400, f"{name} must be printable text of at most {TEXT_CAP} characters")
    if not value and default is None:
        raise Problem(400, f"{name} is missing")
    return value


def _kind(asked: dict[str, Any]) -> str:
    kind = asked.get("kind", "person")
    if kind not in ("person", "workload"):
        raise Problem(400, "kind must be person or workload")
    return str(kind)


def _groups(asked: dict[str, Any]) -> tuple[str, ...]:
    groups = asked.get("groups", [])
    if not isinstance(groups, list) or len(groups) > GROUPS_CAP:
        raise Problem(400, f"groups must be a list of at most {GROUPS_CAP} names")
    return tuple(_text({"groups": group}, "groups") for group in groups)


def _seconds(asked: dict[str, Any], name: str, default: float) -> float:
    value = asked.get(name, default)
    if type(value) not in (int, float) or not 0 < value <= LONGEST:
        raise Problem(400, f"{name} must be a number of seconds, {BOUNDS}")
    return float(value)


ROUTES = [
    Route("/api/v1/self", own_grant),
    Route("/api/v1/token", mint_root, methods=["POST"]),
    Route("/api/v1/grants", tree),
    Route("/api/v1/grants/{id}", revoke, methods=["DELETE"]),
    Route("/api/v1/grants/{id}/lease", renew_lease, methods=["POST"]),
]
