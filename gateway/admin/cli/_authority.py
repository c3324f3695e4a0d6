# SPDX-License-Identifier: GPL-3.0-or-later
"""By what `config` and `connect` get in: the token at hand, else a root of the local user's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from gateway.admin.cli.client import Gateway, status_of
from gateway.admin.cli.delegate import local_root
from gateway.admin.cli.output import Failed


class Authority:
    """A token that is in force, whenever it is asked for."""

    def __init__(self, gateway: Gateway, groups: Sequence[str], lifetime: float) -> None:
        self.gateway = gateway
        self._groups = groups
        self._lifetime = lifetime
        self._root: dict[str, Any] | None = None
        self._renew_at = 0.0

    def token(self) -> str:
        """The token at hand as it is now; a local root is made anew before it expires."""
        given = self.gateway.token()
        if given is not None:
            if self._groups:
                raise Failed("a token has its own groups", "leave --group out")
            return given
        if self._root is None or time.monotonic() > self._renew_at:
            self._root = local_root(self.gateway, self._groups, self._lifetime)
            self._renew_at = time.monotonic() + self._lifetime / 2
        return str(self._root["token"])

    def own(self, token: str) -> dict[str, Any]:
        """What the token stands for, and its targets. Raises Failed."""
        asked = self.gateway.with_token(token)
        try:
            answer: dict[str, Any] = asked.call("GET", "/api/v1/self")
        finally:
            asked.close()
        return answer

    def end(self) -> None:
        """End the root that was made here, if one was. Raises Failed."""
        if self._root is None:
            return
        try:
            self.gateway.call("DELETE", f"/api/v1/grants/{self._root['grant']}?as=ended")
        except Failed as failed:
            if status_of(failed) != 404:
                raise
