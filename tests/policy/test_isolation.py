# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy that asks of every agent to be kept apart, as docs/clients.md has it."""

from __future__ import annotations

import re

import pytest

from gateway.model import Grant, Hop, Identity
from tests.pages import CLIENTS

APART = Hop("a", isolation="namespace")
USER = Hop("b", isolation="uid")
BARE = Hop("c")


def documented() -> str:
    (found,) = re.findall(r"`when: (size\(chain\)[^`]+)`", CLIENTS.read_text("utf-8"))
    return str(found)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ((), "allow"),
        ((APART,), "allow"),
        ((APART, USER), "allow"),
        ((BARE,), "deny"),
        ((BARE, APART), "deny"),
        ((APART, BARE), "deny"),
    ],
)
async def test_one_bare_agent_in_the_chain_is_enough_to_be_refused(
    verdict, chain: tuple[Hop, ...], expected: str
) -> None:
    document = f"""\
policy: apart
match: {{targets: ["*"]}}
rules:
  - id: read
    when: '{documented()}'
    allow: {{sql: {{kinds: [read]}}}}
"""
    grant = Grant("g", Identity("i", "alice"), ("agents",), chain)
    assert await verdict(document, "select 1", grant=grant) == expected
