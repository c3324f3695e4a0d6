# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a grant is authority at a moment; if not, why."""

from __future__ import annotations

from gateway.identity.refusal import refused
from gateway.model import Grant, StoredGrant


def standing(stored: StoredGrant, now: float) -> Grant:
    """The grant, if it is in force at `now`, the store's time. Raises Refused with the reason."""
    grant = stored.grant
    if stored.revoked_at is not None:
        by = stored.revoked_by or "another call just now"
        raise refused(
            "the grant was revoked", f"grant {grant.id} was revoked by {by}", code="revoked"
        )
    if stored.flaw:
        reason = f"the grant's chain does not hold: {stored.flaw}"
        raise refused(reason, f"grant {grant.id}: its row in the store was changed")
    if grant.expires_at <= now:
        cause = f"grant {grant.id} expired {now - grant.expires_at:.0f} s ago"
        raise refused("the grant has expired: get a new token", cause, code="expired")
    if stored.lease_until is not None and stored.lease_until <= now:
        cause = f"grant {grant.id}: lease lapsed"
        raise refused("the grant's lease has lapsed", cause, code="revoked")
    if stored.good_until is not None and stored.good_until <= now:
        cause = "the grant is suspended: its provider does not confirm the login"
        raise refused(cause, f"{cause}: {grant.id}", code="expired")
    return grant
