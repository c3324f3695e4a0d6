# SPDX-License-Identifier: GPL-3.0-or-later
"""Log in as a person, by the browser; other commands then find the token.

The token is kept in a file that only you can read, for this gateway (TRAILGATE_URL).
"""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from gateway.admin.cli._browser_login import begin, wait
from gateway.admin.cli.client import Gateway, gateway_for, kept_token, login_file
from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import Failed, print_json, table, visible
from gateway.admin.cli.token import write_private

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@click.command(
    epilog="""\b
Examples:
  trailgate login
  trailgate login --device
  trailgate login --issuer corp --no-browser
  trailgate login --status -o json

Exit codes: 0 done, 1 refused (--status: not logged in), 2 could not be done."""
)
@click.option("--issuer", metavar="NAME", help="Where to log in, if there are several.")
@click.option("--device", is_flag=True, help="No browser here: show a code to type elsewhere.")
@click.option("--no-browser", is_flag=True, help="Print the address, open nothing.")
@click.option("--status", is_flag=True, help="Tell who is logged in, and until when.")
@output_option("table", "json")
def login(issuer: str | None, device: bool, no_browser: bool, status: bool, output: str) -> None:
    """Log in as a person; the gateway of TRAILGATE_URL gives the token."""
    gateway = gateway_for(None)
    path = login_file(gateway.place, os.environ)
    if path is None:
        raise Failed(
            "an admin socket knows no persons", "set TRAILGATE_URL to the gateway's https address"
        )
    if status:
        _print(_status(gateway, path), output)
        return
    calling = gateway.with_token(None)
    document = _by_device(calling) if device else _by_browser(calling, issuer, not no_browser)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, document["access_token"] + "\n")
    _print(_status(gateway, path), output)


def _by_browser(gateway: Gateway, issuer: str | None, opening: bool) -> dict[str, Any]:
    """RFC 8252: a listener on loopback waits for the browser to come back."""
    with begin() as started:
        asked = {
            "response_type": "code",
            "redirect_uri": started.redirect,
            "code_challenge": started.challenge,
            "code_challenge_method": "S256",
            "state": started.state,
            **({"issuer": issuer} if issuer else {}),
        }
        url = f"{gateway.place.base_url}/login/authorize?{urlencode(asked)}"
        opened = opening and _has_screen(os.environ) and webbrowser.open(url)
        told = "Your browser opens. If not, open" if opened else "Open"
        click.echo(f"{told} this address in a browser on this computer:\n\n  {url}\n", err=True)
        click.echo("Waiting for the browser (Ctrl-C ends it) ...", err=True)
        code = wait(started, expected_iss=_known_as(gateway))
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": started.verifier,
        "redirect_uri": started.redirect,
    }
    answer: dict[str, Any] = gateway.call("POST", "/login/token", form=form)
    return answer


def _has_screen(env: Mapping[str, str]) -> bool:
    """Else a text browser would take the terminal, or nothing would open and nobody be told."""
    named = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return not sys.platform.startswith("linux") or any(env.get(name) for name in named)


def _known_as(gateway: Gateway) -> str:
    """What the gateway calls itself (RFC 8414): its answers name it."""
    return str(gateway.call("GET", "/.well-known/oauth-authorization-server")["issuer"])


def _by_device(gateway: Gateway) -> dict[str, Any]:
    """RFC 8628: the person confirms elsewhere, this asks until then."""
    start = gateway.call("POST", "/login/device_authorization", form={"client": "trailgate"})
    click.echo(
        f"Open {visible(start['verification_uri'])} in a browser, and type there:\n\n"
        f"  {visible(start['user_code'])}\n\nWaiting (Ctrl-C ends it) ...",
        err=True,
    )
    every = float(start["interval"])
    ends = time.monotonic() + float(start["expires_in"])
    form = {"grant_type": DEVICE_CODE, "device_code": str(start["device_code"])}
    while time.monotonic() < ends:
        time.sleep(every)
        try:
            answer: dict[str, Any] = gateway.call("POST", "/login/token", form=form)
            return answer
        except Failed as failed:
            code = getattr(failed, "code", "")
            if code == "slow_down":
                every += 5  # RFC 8628 3.5
            elif code != "authorization_pending":
                raise
    raise Failed("nobody confirmed in time", "trailgate login --device", 1)


def _status(gateway: Gateway, path: Path) -> dict[str, Any]:
    token = kept_token(gateway.place, os.environ)
    if token is None:
        raise Failed("nobody is logged in here", "trailgate login", 1)
    own = gateway.with_token(token).call("GET", "/api/v1/self")
    return {
        "origin": own["origin"],
        "grant": own["grant"],
        "expires": own["expires"],
        "file": str(path),
    }


def _print(document: dict[str, Any], output: str) -> None:
    if output == "json":
        print_json(document)
        return
    origin = document["origin"]
    rows = [
        ("person", origin["name"] or origin["subject"]),
        ("issuer", origin["issuer"]),
        ("grant", document["grant"]),
        ("expires", document["expires"]),
        ("file", document["file"]),
    ]
    click.echo(table(rows, ("", ""), cap=4096).partition("\n")[2])


COMMAND = login
