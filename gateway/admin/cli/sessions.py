# SPDX-License-Identifier: GPL-3.0-or-later
"""See who did what on which target, and end a session that is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.admin.cli._groups import Group
from gateway.admin.cli._reading import Filters, instant
from gateway.admin.cli._record_options import RecordOptions, record_options, warn_of
from gateway.admin.cli._render import session_facts, session_lines, tree_lines
from gateway.admin.cli.client import gateway_for
from gateway.admin.cli.options import data_option, output_option
from gateway.admin.cli.output import Failed, print_documents, print_json, visible


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  trailgate sessions list --data ./data --since 2026-11-24 -o jsonl
  trailgate sessions tree --data s3://evidence/prod
  trailgate sessions kill kq3v --data ./data

Exit codes: 0 done, 1 refused or no such open session, 2 could not be done.""",
)
def sessions() -> None:
    """See who did what on which target, and end a session that is open."""


@sessions.command("list", epilog="Example: trailgate sessions list --data ./data --target orders")
@click.option("--since", help="Only those opened at or after this time (RFC 3339, or a date).")
@click.option("--until", help="Only those opened at or before this time.")
@click.option("--target", help="Only those on this target.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the oldest first.")
@click.option("--after", help="Go on behind the session with this id.")
@record_options
@output_option("table", "json", "jsonl")
def list_(
    since: str | None,
    until: str | None,
    target: str | None,
    limit: int | None,
    after: str | None,
    output: str,
    **place: str | None,
) -> None:
    """Sessions, oldest first: all of a record (--data), or the open ones of TRAILGATE_URL.

    A state is open, closed, killed (authority was taken away while it ran), interrupted (its
    gateway was killed) or lost (the record has no end of it). What is not known is null.

    Exit codes: 0 done, 1 refused, 2 the record could not be read.
    """
    filters = Filters(instant(since), instant(until), target, limit, after)
    options = RecordOptions(**place)
    if options.data is None:
        _print_sessions(_live(filters), output)
        return
    recorded = options.opened()
    _print_sessions(recorded.sessions(filters), output)
    warn_of(recorded)


def _live(filters: Filters) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway_for(None).call("GET", "/api/v1/sessions")
    found.sort(key=lambda one: (one["opened"], one["id"]))
    return [found[i] for i in filters.chosen(found)]


def _print_sessions(found: list[dict[str, Any]], output: str) -> None:
    if output == "table":
        click.echo(session_lines(found))
    else:
        print_documents(found, output)


@sessions.command(epilog="Example: trailgate sessions tree --data ./data -o json")
@record_options
@output_option("table", "json")
def tree(output: str, **place: str | None) -> None:
    """Sessions under the actors that opened them, and actors under those that started them.

    Exit codes: 0 done, 2 the record could not be read.
    """
    recorded = RecordOptions(**place).opened()
    nodes = recorded.tree()
    if output == "json":
        print_json(nodes)
    else:
        for line in tree_lines(nodes):
            click.echo(line)
    warn_of(recorded)


@sessions.command(epilog="Example: trailgate sessions show kq3v --data ./data")
@click.argument("session")
@record_options
@output_option("text", "json")
def show(session: str, output: str, **place: str | None) -> None:
    """One SESSION: who, where, when, and what it did in numbers. The start of an id is enough.

    Exit codes: 0 done, 2 no such session, or the record could not be read.
    """
    recorded = RecordOptions(**place).opened()
    document = recorded.session(session)
    if output == "json":
        print_json(document)
    else:
        for line in session_facts(document):
            click.echo(line)
    warn_of(recorded)


@sessions.command(epilog="Example: trailgate sessions kill kq3v --data ./data")
@click.argument("session")
@data_option
@output_option("text", "json")
def kill(session: str, data: Path | None, output: str) -> None:
    """End an open SESSION now; what it runs is cancelled. The start of an id is enough.

    Exit codes: 0 ended, 1 no such open session or not yours, 2 no gateway answered.
    """
    gateway = gateway_for(data)
    found = [one["id"] for one in gateway.call("GET", "/api/v1/sessions")]
    matching = [one for one in found if session and one.startswith(session)]
    if len(matching) != 1:
        count = "no open session begins" if not matching else f"{len(matching)} sessions begin"
        raise Failed(f"{count} with {visible(session)!r}", "trailgate sessions list", 1)
    answer = gateway.call("DELETE", f"/api/v1/sessions/{matching[0]}")
    if output == "json":
        print_json(answer)
    else:
        click.echo(f"killed: {matching[0]}")


COMMAND = sessions
