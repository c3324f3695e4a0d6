# SPDX-License-Identifier: GPL-3.0-or-later
"""What the contract suite feeds to this protocol."""

from __future__ import annotations

from tests.protocols.postgresql import playbook
from tests.protocols.postgresql.playbook import SYNC, bind, execute, parse, query

PARAMETERS = playbook.PARAMETERS

REQUESTS = {
    "query": query("drop table t"),
    "parse": parse("drop table t") + bind() + execute() + SYNC,
    "bind": bind("unknown") + execute() + SYNC,
    "execute": execute("unknown") + SYNC,
    "function call": playbook.wire.message(ord("F"), b"\0\0\3\xbd\0\0\0\0\0\0"),
    "large bind": bind("unknown", "", b"x" * 3000) + execute() + SYNC,
}
HARMLESS = (b"",)
"""What may reach the target all the same: messages that run nothing."""
