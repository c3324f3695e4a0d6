# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit replay`: a session, or a tree of them, statement by statement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.admin.cli._reading import Recorded, timeline
from gateway.admin.cli._record_options import RecordOptions, record_options, warn_of
from gateway.admin.cli._render import OperationText, cleaner, named_by_parent
from gateway.admin.cli.options import identity_option, output_option
from gateway.admin.cli.output import Failed, json_text, print_json, visible
from gateway.record.reader import Listed
from gateway.record.sessions import tree as session_tree

ROWS_PER_PIECE = 1000
Told = Iterator[tuple[Mapping[str, Any], dict[str, Any]]]
"""Operations, each with the session it belongs to."""


@click.command(
    epilog="""\b
Examples:
  trailgate audit replay kq3v --data ./data
  trailgate audit replay --tree g_5f0c2a9d417e66b03c18 --data ./data"""
)
@click.argument("session", required=False)
@click.option("--raw", is_flag=True, help="Text as recorded: it may drive your terminal.")
@click.option(
    "--tree",
    is_flag=True,
    help="All agents, each under the one that started it, with what it did: of SESSION's tree, of a"
    " grant and those below, or of all. With -o json and jsonl one timeline.",
)
@identity_option
@record_options
@output_option("text", "json", "jsonl")
def replay(
    session: str | None,
    raw: bool,
    tree: bool,
    identity: Path | None,
    output: str,
    **place: str | None,
) -> None:
    """The operations of SESSION: statements, decisions, results. The start of an id is enough.

    Content is opened by the auditor's key; without it the clear part is shown. With -o jsonl an
    operation is a line, and a large one several, with a `part` that counts from 1. Memory does not
    grow with the session, but -o json holds each operation whole.

    Exit codes: 0 done, 2 no such session, or the record could not be read.
    """
    recorded = RecordOptions(**place).opened(identity)
    if session is None and not tree:
        raise Failed("which session?", "trailgate sessions list shows them; or replay --tree")
    found = listed_of_tree(recorded, session) if tree else []
    chosen = [one.document for one in found] if tree else [recorded.session(session or "")]
    _warn_of_sealed(recorded, chosen, identity)
    if tree and output == "text":
        for line in _tree_lines(recorded, found, OperationText(cleaner(raw=raw))):
            click.echo(line)
        warn_of(recorded)
        return
    told = timeline(recorded, chosen, None if output == "json" else ROWS_PER_PIECE)
    if output == "text":
        text = OperationText(cleaner(raw=raw))
        for line in _lines(told, text):
            click.echo(line)
    elif output == "jsonl":
        for document in _documents(told, tree):
            print_json(document)
    else:
        head = f'"sessions": {json_text(chosen)}' if tree else f'"session": {json_text(chosen[0])}'
        _print_json(head, _documents(told, tree))
    warn_of(recorded)


def of_tree(recorded: Recorded, what: str | None) -> list[dict[str, Any]]:
    """The sessions of a session's tree, of a grant and those below it, or all."""
    return [one.document for one in listed_of_tree(recorded, what)]


def listed_of_tree(recorded: Recorded, what: str | None) -> list[Listed]:
    """The same, each with the path to it."""
    listed = recorded.listed()
    if what is None:
        return listed
    wanted = what
    if not any(what == grant for one in listed for _, grant, _ in one.hops):
        if any(what == grant for one in recorded.grants() for _, grant, _ in one.hops):
            click.echo(f"grant {visible(what)} opened no session, nor did one below it", err=True)
            return []
        session_id = recorded.find(what)
        tops = [one.hops[0][1] for one in listed if one.document["id"] == session_id and one.hops]
        if not tops or tops[0] is None:
            raise Failed(f"session {session_id} names no grant, so it is in no tree",
                         "trailgate audit replay SESSION shows it alone")  # fmt: skip
        wanted = tops[0]
    return [one for one in listed if any(wanted == grant for _, grant, _ in one.hops)]


def _warn_of_sealed(
    recorded: Recorded, chosen: Sequence[Mapping[str, Any]], identity: Path | None
) -> None:
    sealed = [one["id"] for one in chosen if not recorded.opens(one["id"])]
    if sealed:
        which = "the content" if len(sealed) == len(chosen) else f"the content of {len(sealed)}"
        why = (
            "no key was named"
            if identity is None
            else (f"it was sealed to others than {identity} holds keys of, or its own was erased")
        )
        click.echo(f"{which} stays sealed: {why}", err=True)
        cure = "name the auditor's private key with --identity FILE"
        if identity is not None:
            cure = "another --identity may open it; trailgate verify tells what was erased"
        click.echo(f"  next: {cure}", err=True)


def _documents(told: Told, tree: bool) -> Iterator[dict[str, Any]]:
    for session, operation in told:
        yield {"session": session["id"], **operation} if tree else operation


def _print_json(head: str, documents: Iterator[dict[str, Any]]) -> None:
    click.echo(f'{{{head}, "operations": [', nl=False)
    for number, document in enumerate(documents):
        click.echo((", " if number else "") + json_text(document), nl=False)
    click.echo("]}")


def _lines(told: Told, text: OperationText) -> Iterator[str]:
    for session, operation in told:
        yield from text.piece(operation, session["id"])
    yield from text.finish()


def _tree_lines(recorded: Recorded, found: Sequence[Listed], text: OperationText) -> Iterator[str]:
    """Who started whom, and below each what it did: session after session, as they were opened."""
    nodes = session_tree([(one.document, one.hops) for one in found])
    yield from _agents_lines(recorded, nodes, text, "")
    for one in found:
        if not one.hops:
            yield from _session_lines(recorded, one.document, text, "")


def _agents_lines(
    recorded: Recorded, nodes: Sequence[Mapping[str, Any]], text: OperationText, indent: str
) -> Iterator[str]:
    for node in nodes:
        yield indent + click.style(visible(node["actor"]), bold=True) + named_by_parent(node)
        for session in node["sessions"]:
            yield from _session_lines(recorded, session, text, indent + "  ")
        yield from _agents_lines(recorded, node["children"], text, indent + "  ")


def _session_lines(
    recorded: Recorded, session: Mapping[str, Any], text: OperationText, indent: str
) -> Iterator[str]:
    """The chain stands in each, since its statements may fill many screens."""
    who = visible(" > ".join(session["chain"]) or "unknown")
    where = visible(session["target"] or "an unknown target")
    at = (session["opened"] or "")[:19].replace("T", " ")
    yield f"{indent}- {who} on {where} (session {session['id']}, {at})"
    told = ((session, one) for one in recorded.operations(session, ROWS_PER_PIECE))
    done = False
    for line in _lines(told, text):
        done = True
        # What was recorded cannot leave its place in the tree, whatever lines it has.
        yield "\n".join(f"{indent}    {part}".rstrip() for part in line.split("\n"))
    if not done:
        yield f"{indent}    " + click.style("nothing was asked", dim=True)
