# SPDX-License-Identifier: GPL-3.0-or-later
"""Where clients are told to find targets: never at an address that means every address."""

from __future__ import annotations

import socket

import pytest

from gateway.config import Objects
from gateway.model import Target
from gateway.wiring.directory import Targets


def told(listened_on: str, public_host: str, own: bool = False) -> str:
    listen = (listened_on, 1) if own else None
    target = Target("orders", "postgresql", "db", 5432, listen=listen)
    targets = Targets(Objects(targets={"orders": target}), tls=True, public_host=public_host)
    targets.bound["orders" if own else "protocol:postgresql"] = (listened_on, 15432)
    (document,) = targets.reachable(None)
    return str(document["host"])


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("every", ["0.0.0.0", "::"])
def test_a_listener_on_every_address_is_told_by_name(every: str, own: bool) -> None:
    assert told(every, "gateway.example.com", own) == "gateway.example.com"
    assert told(every, "", own) == socket.getfqdn()


def test_a_listener_on_one_address_is_told_by_it() -> None:
    assert told("192.0.2.1", "") == told("192.0.2.1", "", own=True) == "192.0.2.1"
    assert told("192.0.2.1", "gateway.example.com") == "gateway.example.com"
    assert told("192.0.2.1", "gateway.example.com", own=True) == "192.0.2.1"
