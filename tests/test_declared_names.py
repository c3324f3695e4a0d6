# SPDX-License-Identifier: GPL-3.0-or-later
"""Agent and person objects, from their file to the names that tokens get."""

from __future__ import annotations

from pathlib import Path

from gateway.config import load_objects
from gateway.wiring.parts import names_of

OBJECTS = """
issuer: corp
url: https://id.example.com
audience: trailgate
---
issuer: ci
url: https://ci.example.com
audience: trailgate
subjects: workload
---
agent: reader
issuer: ci
subject: "repo:shop/etl"
---
person: alice
identities: [{issuer: corp, subject: 00u1}, {issuer: ci, subject: alice@shop}]
"""


def test_objects_name_the_identities_of_their_issuers(tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    path.write_text(OBJECTS)
    names = names_of(load_objects([path])[0])
    assert names.declared("https://ci.example.com", "repo:shop/etl") == "reader"
    assert names.declared("https://corp.example.com", "repo:shop/etl") == ""
    for issuer, subject in (("id", "00u1"), ("ci", "alice@shop")):
        assert names.declared(f"https://{issuer}.example.com", subject) == "alice"
    assert names.taken("reader") and not names.taken("writer")
