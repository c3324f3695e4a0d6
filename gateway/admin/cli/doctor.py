# SPDX-License-Identifier: GPL-3.0-or-later
"""Check settings, clock, disk, targets, issuers and the evidence's place; name each cure."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from gateway.admin.cli._checks import (
    NOTE,
    OK,
    UNKNOWN,
    WRONG,
    Finding,
    check_clock,
    check_data,
    check_evidence,
    check_recipients,
    check_running,
    check_settings,
)
from gateway.admin.cli._checks_of_evidence import check_backlog, check_locks
from gateway.admin.cli._checks_of_store import check_store
from gateway.admin.cli._custody import check_master_key
from gateway.admin.cli._reaching import reach
from gateway.admin.cli.options import output_option
from gateway.admin.cli.output import print_json, visible

_COLOURS = {OK: "green", NOTE: "yellow", WRONG: "red", UNKNOWN: "red"}


@click.command(
    epilog="""\b
Examples:
  trailgate doctor --config /etc/trailgate/trailgate.yaml
  trailgate doctor --data ./data -o json"""
)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The settings. Default: trailgate.yaml, unless --data is given.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Only a data folder and its gateway, as `try` and `demo` leave them.",
)
@click.option("--settings", is_flag=True, help="Only whether the settings and objects are right.")
@output_option("text", "json")
def command(path: Path | None, data: Path | None, settings: bool, output: str) -> None:
    """Check settings, clock, disk, targets, issuers and the evidence's place.

    Run it as the gateway's user. It logs in at each target and asks nothing there.

    With --settings nothing is reached: for a file that is checked before it is put in place.

    Exit codes: 0 all is well, 1 something is wrong, 2 something could not be checked.
    """
    findings: list[Finding] = [] if settings else [check_clock()]
    if settings:
        check_settings(path or Path("trailgate.yaml"), findings)
    elif path is not None or data is None:
        _configured(path or Path("trailgate.yaml"), findings)
    if data is not None:
        findings += [*check_data(data), check_running(data)]
    if output == "json":
        print_json([one.document() for one in findings])
    else:
        _print_text(findings)
    states = {one.state for one in findings}
    sys.exit(1 if WRONG in states else 2 if UNKNOWN in states else 0)


def _configured(path: Path, findings: list[Finding]) -> None:
    """What the settings name; what hangs on unreadable settings cannot be checked."""
    declared = check_settings(path, findings)
    if declared.settings is not None:
        findings += check_data(declared.settings.data)
        given = declared.settings.evidence
        findings += check_evidence(declared.settings)
        findings += check_locks(given)
        findings.append(check_backlog(declared.settings.data, given.backlog))
        findings += check_store(declared.settings.store_place)
        findings.append(asyncio.run(check_master_key(declared.settings)))
        findings.append(check_running(declared.settings.data))
    else:
        _unchecked(("data", "evidence", "backlog", "store", "master_key", "gateway"), findings)
    if declared.objects is not None:
        findings += check_recipients(declared.objects)
        findings += asyncio.run(reach(declared.objects))
    else:
        _unchecked(("recipients", "targets", "issuers"), findings)


def _unchecked(checks: tuple[str, ...], findings: list[Finding]) -> None:
    detail, cure = "could not be checked", "correct the settings first"
    findings += [Finding(one, "", UNKNOWN, detail, cure) for one in checks]


def _print_text(findings: list[Finding]) -> None:
    for one in findings:
        mark = click.style(f"{one.state:<8}", fg=_COLOURS[one.state])
        subject = f"{visible(one.subject)}: " if one.subject else ""
        click.echo(f"{mark}{one.check:<11}{subject}{visible(one.detail)}")
        if one.cure and one.state != OK:
            click.echo(f"{'':19}next: {visible(one.cure)}")


COMMAND = command
