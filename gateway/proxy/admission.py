# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may open what: from a grant and a client's wishes to a session, before anything is opened.

No sockets: a function of the catalogue, the policies and what was presented.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.model import Credential, Grant, Hop, Refusal, Session, Target
from gateway.protocols import Present
from gateway.proxy.ports import Catalog, Policy, Refused
from gateway.proxy.services import ListenSpec


@dataclass(frozen=True, slots=True)
class Admission:
    """A session that may be opened; it has no id yet, that is the record's to give."""

    session: Session
    credential: Credential
    policies: tuple[Mapping[str, str], ...]


def admit(
    catalog: Catalog,
    policy: Policy,
    spec: ListenSpec,
    present: Present,
    grant: Grant,
    client: str,
) -> Admission:
    """Decide at the door. Raises Refused."""
    target, database = _target(catalog, spec, present.database)
    if not target.direct and not grant.chain:
        raise _no(
            "denied",
            f"target {target.name} takes agents only, not a person's own token",
            hint="Use `trailgate run --as NAME -- CMD`, or exchange the token for an agent's.",
        )
    credential = _credential(catalog, target, present.user)
    if not database:
        database = next((name for name in target.databases if name != "*"), credential.user)
    session = Session(
        id="",
        ordinal=0,
        grant=grant,
        target=target,
        user=present.user,
        database=database,
        client=client,
        labels=dict(present.labels),
        opened_at=time.time(),
    )
    policies = tuple(policy.summary(session))
    if not policies:
        raise _no("denied", f"no policy gives access to {target.name}")
    return Admission(session, credential, policies)


def _target(catalog: Catalog, spec: ListenSpec, wanted: str) -> tuple[Target, str]:
    """The target and the database that the client means."""
    if spec.target is not None:
        target, database = catalog.target(spec.target), wanted
        name = spec.target
    else:
        name, _, database = wanted.partition("/")
        target = catalog.target(name)
    if target is None or target.protocol != spec.protocol:
        raise _no("unknown_target", f'there is no {spec.protocol} target "{name}"')
    open_to_any = "*" in target.databases or (spec.target is not None and not target.databases)
    if database and not open_to_any and database not in target.databases:
        raise _no("unknown_target", f'target {target.name} has no database "{database}" for you')
    return target, database


def _credential(catalog: Catalog, target: Target, user: str) -> Credential:
    known = [one for name in target.credentials if (one := catalog.credential(name)) is not None]
    if not known:
        cause = f"target {target.name} names no credential that exists"
        raise Refused(
            Refusal("unavailable", "target", f"target {target.name} is not ready for use"), cause
        )
    for credential in known:
        if credential.user == user:
            return credential
    if target.users == "any":
        return known[0]
    users = ", ".join(sorted({credential.user for credential in known}))
    raise _no(
        "wrong_user",
        f'target {target.name} has no user "{user}"',
        hint=f"Connect as one of: {users}.",
    )


def _no(code: str, reason: str, hint: str = "") -> Refused:
    return Refused(Refusal("denied", code, reason, hint=hint))


def opening(admission: Admission, protocol: str, node: str) -> dict[str, Any]:
    """The metadata of the open frame; the record adds `session` and `ordinal`."""
    session = admission.session
    grant = session.grant
    opened = datetime.fromtimestamp(session.opened_at, UTC)
    return {
        "target": session.target.name,
        "protocol": protocol,
        "user": session.user,
        "database": session.database,
        "origin": {
            "issuer": grant.origin.issuer,
            "subject": grant.origin.subject,
            "name": grant.origin.name,
            "kind": grant.origin.kind,
        },
        "groups": list(grant.groups),
        "chain": [_hop(hop) for hop in grant.chain],
        "labels_chain": list(grant.labels),
        "grant": grant.id,
        "root_grant": grant.root,
        "login": dict(grant.login),
        "client": session.client,
        "labels": dict(session.labels),
        "gateway": node,
        "policies": [dict(one) for one in admission.policies],
        "opened": opened.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }


def _hop(hop: Hop) -> dict[str, Any]:
    known = hop.identity
    return {
        "name": hop.name,
        "proved": hop.proved,
        "issuer": known.issuer if known else "",
        "subject": known.subject if known else "",
        "grant": hop.grant,
        "isolation": hop.isolation,
    }
