# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading is recorded: who read what through this gateway stands in the node's own record."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from gateway.admin.api.calls import author_of, services_of
from gateway.model import Grant

_MOST_QUERY = 200


def note_read(request: Request, caller: Grant | None, what: str, seen: int) -> None:
    """Record that the caller read `seen` documents of a kind. Rate-bounded; never raises.

    `from`: the address, or on the admin socket the user that the kernel says it is.
    """
    event: dict[str, Any] = {
        "event": "read",
        "what": what,
        "seen": seen,
        "by": dict(author_of(request, caller).record),
        "from": request.client.host if request.client else "",
        "path": request.url.path[:_MOST_QUERY],
        "query": request.url.query[:_MOST_QUERY],
    }
    services_of(request).noted(event)
