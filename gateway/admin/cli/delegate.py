# SPDX-License-Identifier: GPL-3.0-or-later
"""What `token` and `run` share: a parent's authority, and the exchange of it for a child's."""

from __future__ import annotations

import json
import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import getuid
from typing import Any, TypeVar

import click

from gateway.admin.cli.client import Gateway, seconds
from gateway.admin.cli.output import Failed
from gateway.identity.delegation import ACCESS_TOKEN, GRANT_TYPE

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a child is asked to be given, as typed."""

    allow: str | None
    scope: tuple[str, ...]
    expires: str | None

    def form(self) -> dict[str, str]:
        form = {}
        if self.allow is not None:
            form["authorization_details"] = json.dumps(_details(self.allow))
        if self.scope:
            form["scope"] = " ".join(self.scope)
        if self.expires is not None:
            form["expires_in"] = str(seconds(self.expires))
        return form


def narrowing_options(command: F) -> F:
    """--allow, --scope, --expires."""
    for option in (
        click.option("--expires", metavar="TIME", help="Its longest life: 15m, 1h, 2d."),
        click.option("--scope", multiple=True, metavar="TARGET", help="Only this target. Repeat."),
        click.option(
            "--allow",
            metavar="JSON",
            help="Only this: one or a list of authorization_details (RFC 9396), selectors as in"
            " an allow rule.",
        ),
    ):
        command = option(command)
    return command


def _details(text: str) -> list[Any]:
    try:
        details = json.loads(text)
    except ValueError as error:
        raise Failed(
            f"--allow is not JSON: {error}",
            """e.g. --allow '{"targets": ["orders"], "sql": {"kinds": ["read"]}}'""",
        ) from None
    elements = details if isinstance(details, list) else [details]
    return [
        {"type": "trailgate", **element} if isinstance(element, dict) else element
        for element in elements
    ]


def local_root(gateway: Gateway, groups: Sequence[str], expires_in: float) -> dict[str, Any]:
    """A root grant for the user of this machine, by the admin socket."""
    if gateway.place.uds is None:
        raise Failed(
            "no token to begin with",
            "set TRAILGATE_TOKEN or TRAILGATE_TOKEN_FILE, or use --data DIR on the gateway's"
            " machine",
        )
    asked = {"subject": local_user(), "groups": list(groups), "expires_in": expires_in}
    answer: dict[str, Any] = gateway.with_token(None).call("POST", "/api/v1/token", json=asked)
    return answer


def local_user() -> str:
    try:
        return pwd.getpwuid(getuid()).pw_name
    except KeyError:
        return f"uid-{getuid()}"


def exchange(
    gateway: Gateway, parent: str, name: str, narrowing: Narrowing, **extra: str
) -> dict[str, Any]:
    """The child's token response for agent `name`. Raises Failed."""
    form = {
        "grant_type": GRANT_TYPE,
        "subject_token": parent,
        "subject_token_type": ACCESS_TOKEN,
        "agent_name": name,
        **narrowing.form(),
        **extra,
    }
    answer: dict[str, Any] = gateway.with_token(None).call("POST", "/oauth/token", form=form)
    return answer
