# SPDX-License-Identifier: GPL-3.0-or-later
"""SPIFFE IDs and trust domains, as the SPIFFE-ID specification has them (sections 2.1 to 2.4)."""

from __future__ import annotations

import re

SPIFFE = "spiffe://"
_DOMAIN = re.compile(r"spiffe://[a-z0-9._-]{1,255}")
_ID = re.compile(r"(spiffe://[a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)+)")
_MOST = 2048
"""Bytes of an ID."""


def checked_trust_domain(url: str) -> str:
    """The URL of a trust domain, `spiffe://NAME`, as it stands. Raises ValueError."""
    if not _DOMAIN.fullmatch(url):
        raise ValueError(f"{url!r}: a trust domain is spiffe://NAME, without a path")
    return url


def trust_domain_of(subject: object) -> str:
    """The trust domain that a SPIFFE ID is of; empty for what is none."""
    if not isinstance(subject, str) or len(subject) > _MOST:
        return ""
    match = _ID.fullmatch(subject)
    if match is None or {".", ".."} & set(match[2].split("/")):
        return ""
    return match[1]
