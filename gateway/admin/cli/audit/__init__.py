# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what was recorded, and ask it questions."""

from __future__ import annotations

import click

from gateway.admin.cli.audit.export import export
from gateway.admin.cli.audit.lake import query, rebuild_lake
from gateway.admin.cli.audit.reconcile import reconcile
from gateway.admin.cli.audit.replay import replay
from gateway.admin.cli.audit.who import violations, who


@click.group(
    epilog="""\b
Examples:
  trailgate audit replay kq3v --data ./data
  trailgate audit who --table customers --data ./data
  trailgate audit violations --data s3://evidence/prod -o jsonl

Exit codes: 0 done, 2 could not be done."""
)
def audit() -> None:
    """Read what was recorded, and ask it questions."""


for _command in (replay, who, violations, query, rebuild_lake, reconcile, export):
    audit.add_command(_command)

COMMAND = audit
