# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and fields that do not go together: each is named with its cure, and nothing is made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.collection.conftest import Ansible
from tests.collection.leaks import holds
from tests.live.test_serve import Served

pytestmark = pytest.mark.live

SEEDED = "s3eded-in-a-conflict"
SECRET = {"user": "app", "secret": "{{ lookup('ansible.builtin.env', 'SEED') }}"}
TARGET = {"protocol": "postgresql", "address": "db:5432", "credentials": ["gone"]}
READ = {"id": "read", "allow": {"sql": {"kinds": ["read"]}}}
DROP = {"as": {"groups": ["x"]}, "target": "t", "sql": "drop table x", "expect": "allow"}
ISSUER = {"issuer_url": "https://id.example.com", "audience": "trailgate"}
MODULES: list[tuple[str, dict[str, Any], str]] = [
    ("credential", {**SECRET, "secret_file": "/x"}, "mutually exclusive: secret|secret_file"),
    ("credential", {"secret": SECRET["secret"]}, "missing: user"),
    ("credential", {"user": "app", "secret": " "}, "the secret is empty; give one"),
    ("credential", {**SECRET, "rotation": {"kind": "oracle"}}, "known are postgresql"),
    (
        "credential",
        {**SECRET, "rotation": {"kind": "postgresql", "mode": "two-user"}},
        "rotation.users: two-user needs two users; write users: [app_a, app_b]",
    ),
    (
        "credential",
        {**SECRET, "rotation": {"kind": "postgresql", "every": "soon"}},
        "rotation.every: 'soon' is no length of time; write 90s, 15m, 8h or 30d",
    ),
    ("target", {**TARGET, "adress": "x"}, "adress. Supported parameters include: address"),
    ("target", TARGET, "target never: no credential 'gone'; known are"),
    ("target", {**TARGET, "address": "db"}, "'db' is not an address; write HOST:PORT"),
    ("target", {**TARGET, "tls": {"ca_path": "/nowhere"}}, "is not a file; name a PEM file"),
    ("target", {**TARGET, "plain": True}, "add listen: 127.0.0.1:PORT or remove plain"),
    ("issuer", {**ISSUER, "jwks": {"url": "https://x", "from": "file:/x"}}, "url|from|keys"),
    ("issuer", {**ISSUER, "kind": "saml", "client_id": "x"}, "not for kind: saml; remove it"),
    ("agent", {"issuer": "ci"}, "required together: issuer, subject"),
    ("policy", {"rules": [{"id": "a", "alow": {}}]}, "policy never/rules/0/alow: unknown key"),
    ("policy", {"rules": [READ], "match": {"grups": ["a"]}}, "did you mean `groups`?"),
    ("policy", {"rules": [READ], "tests": [DROP]}, "policy never/tests/0: the test expects allow"),
    ("retention", {"sessions": "ten", "keys": "9d"}, "write whole days, 1d to 36500d"),
    ("legal_hold", {"sessions": {"from": "now"}}, "'now' is no time; write 2026-11-24"),
    ("recipient", {"key": "nonsense"}, "from recipient.pub"),
    ("person", {"identities": [{"issuer": "x", "subject": "y"}]}, "no issuer 'x'; known are"),
]
SETS: list[tuple[dict[str, Any], str]] = [
    ({"target": "never", **TARGET, "adress": "x"}, "'target never.adress'; did you mean 'address'"),
    ({"credential": "never"}, "credential never: the key 'user' is missing; add it"),
    ({"policy": "never", "rules": [READ], "rulez": []}, "policy never/rulez: unknown key"),
]


def test_what_does_not_go_together_is_named_and_nothing_is_made(
    ansible: Ansible, bare: Served
) -> None:
    url = {"url": f"unix://{bare.data}/admin.sock"}
    tasks: list[dict[str, Any]] = [
        {f"trailgate.gateway.{kind}": {**url, "name": "never", **given}}
        for kind, given, _ in MODULES
    ]
    tasks += [{"trailgate.gateway.objects": {**url, "objects": [given]}} for given, _ in SETS]
    cures = [cure for *_, cure in MODULES] + [cure for _, cure in SETS]
    kinds = sorted({kind for kind, *_ in MODULES})
    look = {"trailgate.gateway.gateway_info": {**url, "gather": kinds}}
    (*results, info), said = ansible.tried([*tasks, look], "-vvv", SEED=SEEDED)
    for task, result, cure in zip(tasks, results, cures, strict=True):
        assert result["failed"] and cure in result["msg"], (task, result)
        assert "********" not in result["msg"] and "Traceback" not in result["msg"]
    names = [one["name"] for found in info["objects"].values() for one in found]
    assert "never" not in names and not holds(said.encode(), [SEEDED])
