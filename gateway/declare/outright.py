# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared objects that stop a start: how to be rid of them, in the record as ever."""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Collection

from gateway.declare.declarer import Declarer
from gateway.declare.orders import Author, Order, Rejected, Wanted

log = logging.getLogger("trailgate")

OPERATOR = "serve"
"""`managed_by` of what is done at a start."""


async def delete_declared(declarer: Declarer, keys: Collection[tuple[str, str]]) -> None:
    """Delete objects by kind and name, whoever manages them, for the user who starts the gateway.

    Together, since each may be what keeps another from being right. Raises as `Declarer.order`.
    """
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = ""
    author = Author(f"uid {uid} ({user})", {"uid": uid, "user": user})
    wanted = [Wanted(kind, name, None) for kind, name in dict.fromkeys(keys)]
    await declarer.order(Order(wanted, OPERATOR, author, adopt=True))
    for kind, name in keys:
        log.warning("deleted at the start", extra={"object": f"{kind} {name}"})


def cure_of(error: Rejected) -> str:
    """What to do about objects with which no gateway starts."""
    cure = "correct the files, or what they name"
    declared = dict.fromkeys(str(one["object"]) for one in error.findings if one.get("object"))
    if not declared:
        return cure
    options = " ".join(f"--delete {one.replace(' ', '/')}" for one in declared)
    return f"{cure}; or take back, on all nodes, what is declared: trailgate serve {options}"
