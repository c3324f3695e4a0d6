# SPDX-License-Identifier: GPL-3.0-or-later
"""End the login of this computer, and all that was given by it."""

from __future__ import annotations

import os

import click

from gateway.admin.cli.client import gateway_for, kept_token, login_file
from gateway.admin.cli.output import Failed


@click.command(
    epilog="""\b
Example:
  trailgate logout

Exit codes: 0 done, 1 refused, 2 could not be done."""
)
def logout() -> None:
    """Revoke the token of `trailgate login`, with all below it, and remove its file."""
    gateway = gateway_for(None)
    path, token = login_file(gateway.place, os.environ), kept_token(gateway.place, os.environ)
    if path is None or token is None:
        raise Failed("nobody is logged in here", "trailgate login", 1)
    # The file goes only when the gateway has heard: else a token stays good that nobody sees.
    gateway.with_token(None).call("POST", "/oauth/revoke", form={"token": token})
    path.unlink(missing_ok=True)
    click.echo("logged out")


COMMAND = logout
