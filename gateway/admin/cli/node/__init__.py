# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's key: certificates of an offline root, rotation, retirement, trust files."""

from __future__ import annotations

import click

from gateway.admin.cli._groups import Group
from gateway.admin.cli.node.key import install, request, rotate
from gateway.admin.cli.node.retire import retire
from gateway.admin.cli.node.root import certify
from gateway.admin.cli.node.trust import trust


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  trailgate node request --data /var/lib/trailgate > gw1.request
  trailgate node certify gw1.request --root root.key > gw1.certificate
  trailgate node install gw1.certificate --data /var/lib/trailgate

Exit codes: 0 done, 2 could not be done.""",
)
def node() -> None:
    """The node's key: certificates of an offline root, rotation, retirement, trust files."""


for _command in (request, certify, install, rotate, retire, trust):
    node.add_command(_command)

COMMAND = node
