# SPDX-License-Identifier: GPL-3.0-or-later
"""How a grant comes from the one above it: its id, and the logins that it carries on."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from gateway.model import Grant, Identity


def login_below(
    parent: Grant, grant_id: str, actor_login: Mapping[str, object] | None
) -> Mapping[str, object]:
    """The origin's login, and under `actors` each proved hop's own, so that none is lost."""
    if actor_login is None:
        return parent.login
    above = parent.login.get("actors", [])
    actors = [*(above if isinstance(above, list) else ()), {"grant": grant_id, **actor_login}]
    return {**parent.login, "actors": actors}


def new_grant_id() -> str:
    return "g_" + secrets.token_hex(10)


Kin = Callable[[Identity], Sequence[tuple[str, str]]]
"""All identities, (issuer, subject), of the person that one belongs to; itself at least."""


def itself(identity: Identity) -> Sequence[tuple[str, str]]:
    """`Kin` where nobody has several."""
    return ((identity.issuer, identity.subject),)


def same_person(one: Identity, other: Identity, kin: Kin) -> bool:
    """Names are for reading: only issuer and subject say who someone is."""
    return (one.issuer, one.subject) in kin(other)


def is_whole_login(grant: Grant) -> bool:
    """Whether a grant is its origin's own login with all that is the origin's. Only that stands
    above the origin's other logins: one that was given less must not reach what has more."""
    return not grant.chain and not grant.narrowing
