# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared names of identities: what `agent` and `person` objects call (issuer, subject)."""

from __future__ import annotations

from collections.abc import Mapping


class Names:
    """Names that the gateway's admins gave, by (issuer's URL, subject).

    Policy compares them, so no token may claim one: a display name that is declared for somebody
    else is dropped, and a subject spelled like one is shown with its issuer before it.
    """

    def __init__(self, declared: Mapping[tuple[str, str], str] | None = None) -> None:
        self._declared = dict(declared or {})
        self._taken = frozenset(self._declared.values())

    def declared(self, issuer_url: str, subject: str) -> str:
        """The name declared for an identity; empty: none."""
        return self._declared.get((issuer_url, subject), "")

    def kin(self, issuer_url: str, subject: str) -> tuple[tuple[str, str], ...]:
        """All identities of whom this one belongs to; for one that nobody declared, itself."""
        name = self.declared(issuer_url, subject)
        if not name:
            return ((issuer_url, subject),)
        return tuple(identity for identity, other in self._declared.items() if other == name)

    def taken(self, name: str) -> bool:
        """True if the name is somebody's by declaration."""
        return name in self._taken

    def shown(self, issuer_url: str, issuer: str, subject: str, claimed: str) -> str:
        """What to call an identity; empty: its subject will do. `claimed` is its token's word."""
        if declared := self.declared(issuer_url, subject):
            return declared
        if claimed and not self.taken(claimed):
            return claimed
        # A declared name has no colon, so this is nobody's.
        return f"{issuer}:{subject}" if self.taken(subject) else ""
