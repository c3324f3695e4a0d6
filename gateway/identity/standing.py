# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a grant is authority at a moment; if not, why."""

from __future__ import annotations

from gateway.identity.refusal import refused
from gateway.model import LAPSED, Grant, StoredGrant


def standing(stored: StoredGrant, now: float) -> Grant:
    """The grant, if it is in force at `now`, the store's time. Raises Refused with the reason."""
    grant = stored.grant
    if stored.ending is not None:
        cause = f"grant {grant.id}: {stored.ending.how} by {stored.ending.by}"
        raise refused(stored.ending.told, cause, code="revoked")
    if stored.flaw:
        reason = f"the grant's chain does not hold: {stored.flaw}"
        raise refused(reason, f"grant {grant.id}: its row in the store was changed")
    if grant.expires_at <= now:
        cause = f"grant {grant.id} expired {now - grant.expires_at:.0f} s ago"
        raise refused("the grant has expired: get a new token", cause, code="expired")
    if stored.lease_until is not None and stored.lease_until <= now:
        raise refused(LAPSED.told, f"grant {grant.id}: lease lapsed", code="revoked")
    if stored.good_until is not None and stored.good_until <= now:
        cause = "the grant is suspended: its provider does not confirm the login"
        raise refused(cause, f"{cause}: {grant.id}", code="expired")
    return grant
