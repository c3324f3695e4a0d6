# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command asks of a login, what the browser is given, and how either is told no."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.identity.refusal import refused
from gateway.model import PendingLogin, Refused

REDIRECT = re.compile(r"http://127\.0\.0\.1:([1-9][0-9]{0,4})/callback")
"""RFC 8252 7.3: the command's own listener, at any port; nothing else is redirected to."""
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
STATE = re.compile(r"[A-Za-z0-9_-]{16,128}")


class LoginError(Exception):
    """What the command is told (RFC 6749 5.2, RFC 8628 3.5): a code and safe words."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description


class LoginOver(Refused):
    """A login that came to nothing; `command` waits on loopback to hear so, where there is one."""

    def __init__(self, error: Refused, login: PendingLogin) -> None:
        super().__init__(error.refusal, str(error))
        self.command: Mapping[str, str] | None = login.document.get("command")


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the browser goes, and the cookie that binds it to its login."""

    url: str
    ticket: str

    def __repr__(self) -> str:
        return "Sent()"


@dataclass(frozen=True, slots=True)
class DeviceStart:
    """RFC 8628 3.2."""

    device_code: str
    user_code: str

    def __repr__(self) -> str:
        return "DeviceStart()"


@dataclass(frozen=True, slots=True)
class Command:
    """What a command with a listener on loopback asks for (RFC 8252, RFC 7636)."""

    redirect: str
    challenge: str
    state: str

    def __post_init__(self) -> None:
        port = REDIRECT.fullmatch(self.redirect)
        if port is None or int(port[1]) > 65535:
            raise refused("redirect_uri must be http://127.0.0.1:PORT/callback")
        if not CHALLENGE.fullmatch(self.challenge):
            raise refused("code_challenge must be an S256 challenge")
        if not STATE.fullmatch(self.state):
            raise refused("state must be 16 to 128 letters, digits, '-' or '_'")
