# SPDX-License-Identifier: GPL-3.0-or-later
"""Trust files: C2SP tlog-policy, vkeys alone, and everything that is neither."""

from __future__ import annotations

import hashlib

import pytest

from gateway.verify.note import COSIGNATURE, ED25519, NoteError, VerifierKey
from gateway.verify.trust import Trust


def vkey(name: str, kind: bytes = COSIGNATURE) -> str:
    return VerifierKey.make(name, hashlib.sha256(name.encode()).digest(), kind).text()


LOG = vkey("trailgate/gw1/0", ED25519)
FIVE = f"""
# two organisations
log {LOG} https://log.example
witness X1 {vkey("x1")}
\twitness X2   {vkey("x2")} https://x2.example
witness X3 {vkey("x3")}
group X 2 X1 X2 X3

witness Y1 {vkey("y1")}
witness Y2 {vkey("y2")}
group Y any Y1 Y2
group both all X Y
quorum both
"""


def test_vkeys_alone_ask_for_no_witness() -> None:
    trust = Trust.parse(f"# mine\n{LOG}\n\n{LOG}\n")
    assert (list(trust.logs), trust.witnesses, trust.quorum) == (["trailgate/gw1/0"], {}, None)
    assert Trust.parse(f"log {LOG}\nquorum none\n").quorum is None


@pytest.mark.parametrize(
    ("cosigned", "at"),
    [
        ({}, None),
        ({"X1": 1, "X2": 2}, None),
        ({"X1": 5, "X3": 9, "Y2": 7}, 9),
        ({"X1": 5, "X2": 6, "X3": 9, "Y1": 8, "Y2": 7}, 7),
        ({"X2": 6, "Y1": 8, "Y2": 7}, None),
    ],
)
def test_the_time_of_a_quorum_is_when_enough_had_cosigned(
    cosigned: dict[str, int], at: int | None
) -> None:
    assert Trust.parse(FIVE).witnessed_at(cosigned) == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "quorum none",
        f"log {vkey('a')}",
        f"log {LOG} u v",
        f"{LOG} more",
        f"log {LOG}\nwitness A {LOG}\nquorum A",
        f"log {LOG}\nwitness A {vkey('a')}",
        f"log {LOG}\nwitness A {vkey('a')}\nwitness B {vkey('a')}\nquorum A",
        f"log {LOG}\nwitness A {vkey('a')}\nwitness A {vkey('b')}\nquorum A",
        f"log {LOG}\nwitness none {vkey('a')}\nquorum none",
        f"log {LOG}\nquorum A\nwitness A {vkey('a')}",
        f"log {LOG}\nwitness A {vkey('a')}\nquorum A\nquorum A",
        f"log {LOG}\nwitness A {vkey('a')}\ngroup G 2 A\nquorum G",
        f"log {LOG}\nwitness A {vkey('a')}\ngroup G 0 A\nquorum G",
        f"log {LOG}\nwitness A {vkey('a')}\ngroup G all\nquorum G",
        f"log {LOG}\nwitness A {vkey('a')}\ngroup G any A A\nquorum G",
        f"log {LOG}\nwitness A {vkey('a')}\ngroup G any A\ngroup H any A\nquorum H",
        f"log {LOG}\nwitness A {vkey('a')}\ngroup G any B\nquorum G",
        f"log {LOG}\nwitness\nquorum none",
        f"log {LOG}\nquorum none extra",
        f"log {LOG[:-2]}A=",
    ],
)
def test_what_is_no_trust_file_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Trust.parse(text)
