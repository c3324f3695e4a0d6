# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify the record, offline, with public keys only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gateway.admin.cli.options import output_option
from gateway.verify.__main__ import run_options


@click.command(
    "verify",
    epilog="Example: trailgate verify /var/lib/trailgate --trust auditor.vkeys -o json",
)
@click.argument("path", required=False)
@click.option(
    "--proof",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Check one tlog-proof (`audit export`); no PATH is needed.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    help="What to trust: a C2SP policy, vkeys, or a witness's folder.",
)
@click.option("--as-of", help="When the evidence was copied: it must reach to this time.")
@click.option("--fork", help="Compare with what another auditor, or a witness, was shown.")
@click.option("--lake", help="Compare a lake (a folder or s3://) with the evidence.")
@click.option("--identity", type=click.Path(path_type=Path), help="Private key: check content too.")
@click.option("--session", help="Only this session.")
@click.option("--since", help="Only sessions that were open at or after this time.")
@click.option("--until", help="Only sessions that were open at or before this time.")
@click.option("--keys", help="Wrapped keys, when they are not where README.json says.")
@click.option("--endpoint-url", help="S3 other than Amazon's.")
@click.option("--region", help="S3 region.")
@output_option("text", "json")
def COMMAND(output: str, **options: Any) -> None:
    """Verify the record in PATH: a data folder, an evidence folder or s3://BUCKET/PREFIX.

    Exit codes: 0 sound, 1 a defect was found, 2 could not be checked or unresolved.
    """
    sys.exit(run_options(options, as_json=output == "json"))
