# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a gateway in front of your own servers, now, and record what goes through it."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from gateway.admin.cli._embedded import (
    ClientFiles,
    auditor,
    data_folder,
    embedded_settings,
    master_key,
)
from gateway.admin.cli._isolating import be_undumpable
from gateway.admin.cli._postgresql_url import SCHEMES, PostgresUrl, as_objects, parse_url, probe
from gateway.admin.cli.options import data_option
from gateway.admin.cli.output import Failed, print_json, visible
from gateway.app import Gateway, StartFailed, running
from gateway.certificates import write_private
from gateway.config import ObjectName, Objects, Wrong
from gateway.logs import configure
from gateway.model import Credential, Decision, Identity, Session, Target, Verdict
from gateway.signals import EndSignals

TOKEN_SECONDS = 12 * 3600
SHOWN_TEXT = 160
_LOCAL = "trailgate:local"


@dataclass(frozen=True, slots=True)
class _Asked:
    """One URL of the command line."""

    name: str
    url: PostgresUrl


@click.command(
    "try",
    epilog="Example: trailgate try shop=postgresql://app@db.internal/shop --policy shop.yaml",
)
@click.argument("urls", nargs=-1, required=True, metavar="[NAME=]URL...")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True),
    help="Enforce this policy document. Without it everything is allowed, recorded, and judged "
    "by the agent-sandbox policy (would_deny).",
)
@data_option
@click.option("--json", "as_json", is_flag=True, help="One line for a machine, once all is ready.")
def command(urls: Sequence[str], policy: Path | None, data: Path | None, as_json: bool) -> None:
    """Put a gateway in front of your own servers, now, and record what goes through it.

    Each URL gets a listener on a free loopback port. There, database names mean what they mean on
    the server, any user name is taken, and the password is the token printed here. A password
    that the URL leaves out comes from PGPASSWORD or ~/.pgpass. Without sslmode, TLS is used if
    the server offers it, as libpq's `prefer` does; the server's login method is fixed at start.

    Runs until Ctrl-C or SIGTERM. Exit codes: 0 ended as asked, 1 the record failed, 2 could not
    start.
    """
    asked = _read(urls)
    try:
        folder = data_folder(data, "try")
        master_key(folder)
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}", "name a folder with --data") from error
    be_undumpable(cores=False)
    configure("warning")
    try:
        sound = uvloop.run(_try(asked, policy, folder, as_json))
    except StartFailed as error:
        raise Failed(str(error), error.cure) from error
    if not sound:
        raise Failed("the record failed, so the gateway ended", f"see {folder}", 1)


COMMAND = command


def _read(urls: Sequence[str]) -> list[_Asked]:
    """The URLs, each with a name of its own. Raises Failed."""
    found: list[_Asked] = []
    for place, text in enumerate(urls, 1):
        # A URL's own '=' stands behind its scheme.
        before, equals, rest = text.partition("=")
        named = bool(equals) and "://" not in before
        try:
            one = _one(before if named else "", rest if named else text)
        except Wrong as error:
            raise Failed(f"URL {place}: {error}") from error
        if any(one.name == other.name for other in found):
            raise Failed(f"two targets are named {one.name!r}", "name them: NAME=URL")
        found.append(one)
    return found


def _one(name: str, url: str) -> _Asked:
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise Wrong(f"the scheme {scheme!r} is not in this version; write postgresql://...")
    read = parse_url(url)
    return _Asked(ObjectName.parse(name or read.database), read)


async def _try(asked: list[_Asked], policy: Path | None, data: Path, as_json: bool) -> bool:
    pairs = await asyncio.gather(*(_target(one) for one in asked))
    objects = Objects(
        targets={target.name: target for target, _ in pairs},
        credentials={credential.name: credential for _, credential in pairs},
        recipients={"auditor": auditor(data)},
    )
    settings, signals = embedded_settings(data, "try"), EndSignals()
    watch = None if as_json else tell_would_deny
    async with running(
        settings, objects, policy=policy, sandbox=True, loopback_api=True, watch=watch
    ) as gateway:
        for target, _ in pairs:
            await gateway.reach(target.name)
        ready = await _ready(gateway, asked, policy)
        if as_json:
            print_json(ready)
        else:
            _tell(ready)
        await signals.wait(gateway.record_failed)
        if not as_json:
            click.echo("\nending: sessions close, the record is completed ...", err=True)
    if not as_json:
        click.echo(f"done. Check it: trailgate verify {data}", err=True)
    return not gateway.record_failed.is_set()


async def _target(one: _Asked) -> tuple[Target, Credential]:
    try:
        tls, login = await asyncio.to_thread(probe, one.url)
    except (OSError, Wrong) as error:
        raise Failed(
            f"{one.name} ({one.url.where}): {error}", "can psql reach it with the same URL?"
        ) from error
    if login in ("scram-sha-256", "md5", "password") and not one.url.password:
        raise Failed(
            f"{one.name}: the server asks {one.url.user} for a password",
            "put it in the URL, in PGPASSWORD or in ~/.pgpass",
        )
    return as_objects(one.name, one.url, tls, login, ("127.0.0.1", 0))


async def _ready(gateway: Gateway, asked: list[_Asked], policy: Path | None) -> dict[str, Any]:
    user = getpass.getuser()
    minted = await gateway.grants.mint_root(Identity(_LOCAL, user, user), ("local",), TOKEN_SECONDS)
    data = gateway.settings.data
    clients = [
        ClientFiles.written(
            data / "clients",
            one.name,
            gateway.port_of(one.name),
            one.url.user,
            one.url.database,
            minted.token,
            gateway.ca_path,
        )
        for one in asked
    ]
    write_private(data / "clients" / "token", f"{minted.token}\n".encode())
    return {
        "ready": True,
        "pid": os.getpid(),
        "data": str(data),
        "admin_url": gateway.url,
        "ca": str(gateway.ca_path),
        "token": minted.token,
        "policy": str(policy) if policy else "agent-sandbox (observe)",
        "targets": [client.document(minted.token) for client in clients],
    }


def tell_would_deny(session: Session, decision: Decision) -> None:
    """Show what the policy would refuse, if it were enforced; without the statement's values."""
    if decision.verdict is not Verdict.WOULD_DENY:
        return
    text = str(json.loads(decision.record)["clear"]["text"])
    who = visible(" > ".join(session.grant.labels))
    rule = click.style(f"{decision.policy}/{decision.rule}".rstrip("/"), fg="yellow")
    with suppress(OSError):
        click.echo(f"  would be denied: {rule}  {who}  {visible(text)[:SHOWN_TEXT]}", err=True)
        click.echo(click.style(f"    {visible(decision.reason)}", dim=True), err=True)


def _tell(ready: dict[str, Any]) -> None:
    """For a person: what to type now."""
    click.secho("Trailgate stands in front of your servers. Ctrl-C ends it.\n", bold=True)
    for target in ready["targets"]:
        click.echo(f"  {click.style(target['name'], bold=True)} ({target['protocol']})")
        click.echo(f"    {target['command']}\n")
    data = ready["data"]
    click.echo(f"  policy   {ready['policy']}")
    click.echo(f"  data     {data}")
    click.echo(f"  nested   export TRAILGATE_URL={ready['admin_url']}")
    click.echo(f"           export TRAILGATE_TOKEN_FILE={data}/clients/token")
    click.echo("           trailgate run --as agent -- psql -c 'select 1'")
    click.echo("\n  Then, in another terminal:")
    click.echo(f"    trailgate sessions list --data {data}")
    click.echo(f"    trailgate audit replay SESSION --data {data}")
    click.echo(f"    trailgate verify {data} --identity {data}/auditor/identity\n")
