# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules over https, for callers with rights and without; sets of objects; a version conflict."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.collection.conftest import Ansible
from tests.live.rotating_world import asked
from tests.live.test_serve import Served

pytestmark = pytest.mark.live

INFO, ACCESS = "trailgate.gateway.gateway_info", "trailgate.gateway.access"
OBJECTS, POLICY = "trailgate.gateway.objects", "trailgate.gateway.policy"
SEEDED = "s3eded-In-A-Set"


def token_of(bare: Served, *groups: str, seconds: float = 600) -> str:
    body = {"subject": "tester", "groups": list(groups), "expires_in": seconds}
    return str(asked(bare.data, "POST", "token", body)["token"])


def expired(bare: Served) -> str:
    """A token that was in force and is not any more."""
    token = token_of(bare, "ops", seconds=1)
    end = time.monotonic() + 30
    while True:
        transport = httpx.HTTPTransport(uds=str(bare.data / "admin.sock"))
        with httpx.Client(base_url="http://gateway", transport=transport) as client:
            headers = {"authorization": f"Bearer {token}"}
            if client.get("/api/v1/self", headers=headers).status_code == 401:
                return token
        assert time.monotonic() < end
        time.sleep(0.1)


def test_rights_come_from_access_objects_and_a_refusal_names_the_cure(
    ansible: Ansible, bare: Served
) -> None:
    socket = {"url": f"unix://{bare.data}/admin.sock"}
    secure = {"url": f"https://127.0.0.1:{bare.api}", "ca_path": bare.ca}
    tokens = {group.upper(): token_of(bare, group) for group in ("ops", "audits", "nobody")}
    tokens["LATE"] = expired(bare)
    ops, audits, nobody, late = (
        f"{{{{ lookup('ansible.builtin.env', '{name}') }}}}" for name in tokens
    )
    wanted = {"name": "over-https", "groups": ["x"], "may": ["audit"]}
    tasks: list[dict[str, Any]] = [
        {ACCESS: {**socket, "name": "ops", "groups": ["ops"], "may": ["admin"]}},
        {ACCESS: {**socket, "name": "audits", "groups": ["audits"], "may": ["audit"]}},
        {ACCESS: {**secure, **wanted, "token": ops}},
        {INFO: {**secure, "token": audits, "gather": ["access"]}},
        {ACCESS: {**secure, **wanted, "token": audits, "groups": ["y"]}},
        {INFO: {**secure, "token": nobody, "gather": ["access"]}},
        {ACCESS: {**secure, **wanted, "token": late, "groups": ["z"]}},
        {ACCESS: {**secure, **wanted, "token": late, "groups": ["z"]}, "check_mode": True},
        {"ansible.builtin.debug": {"msg": "{{ lookup('trailgate.gateway.token', 'reader') }}"}},
        {INFO: {}, "environment": {"TRAILGATE_URL": secure["url"], "TRAILGATE_CA_PATH": bare.ca}},
    ]
    found, said = ansible.tried(tasks, "-vvv", **tokens)
    _, _, made, read, *refused, nowhere, anybody = found
    assert nowhere["failed"] and "which gateway?" in nowhere["msg"]
    assert made["changed"] and made["object"]["changed_by"]
    assert "over-https" in [one["name"] for one in read["objects"]["access"]]
    for result, (status, cure) in zip(
        refused,
        [
            (403, "ask for an access object whose groups you are in"),
            (403, "ask for an access object whose groups you are in"),
            (401, "give a token that is in force"),
            (401, "give a token that is in force"),
        ],
        strict=True,
    ):
        assert (result["failed"], result["status"]) == (True, status) and cure in result["msg"]
    assert anybody["ready"] is True and anybody["objects"] == {}
    assert not [token for token in tokens.values() if token in said]


def test_a_set_is_declared_pruned_and_refused_as_a_whole(ansible: Ansible, bare: Served) -> None:
    url = {"url": f"unix://{bare.data}/admin.sock", "managed_by": "ansible:a-set"}
    credential = {"credential": "set-app", "user": "app"}
    target = {
        "target": "set-db",
        "protocol": "postgresql",
        "address": "db2.internal:5432",
        "credentials": ["set-app"],
    }
    given = "{{ lookup('ansible.builtin.env', 'SEED') }}"
    both = {**url, "objects": [target, credential], "secrets": {"set-app": given}}
    left = {**url, "objects": [credential], "prune": True}
    broken = {**url, "objects": [credential, {**target, "target": "b", "credentials": ["gone"]}]}
    others = {**both, "managed_by": "ansible:another"}
    tasks: list[dict[str, Any]] = [
        {OBJECTS: both, "check_mode": True},
        {OBJECTS: both},
        {OBJECTS: both},
        {OBJECTS: {**both, "update_secrets": "always"}},
        {OBJECTS: broken},
        {OBJECTS: {**url, "objects": [{"nonsense": "x"}]}},
        {OBJECTS: {**both, "secrets": {"unknown": given}}},
        {OBJECTS: {**others, "objects": [{**target, "labels": {"env": "prod"}}], "secrets": {}}},
        {OBJECTS: left, "check_mode": True},
        {OBJECTS: left},
        {OBJECTS: left},
        {OBJECTS: {**url, "objects": [], "prune": True}},
    ]
    found, said = ansible.tried(tasks, "-vvv", SEED=SEEDED)
    predicted, made, again, always, *rest = found
    assert [one["changed"] for one in found[:4]] == [True, True, False, True]
    assert {(one["action"], one["name"]) for one in made["changes"]} == {
        ("create", "set-app"),
        ("create", "set-db"),
    }
    assert predicted["diff"] == made["diff"] and again["diff"] == []
    assert [one["secret"] for one in always["changes"] if one["name"] == "set-app"] == [True]
    whole, unknown, nobodys, conflict, *pruning = rest
    assert whole["failed"] and "gone" in whole["msg"]
    assert unknown["failed"] and "known are access, agent" in unknown["msg"]
    assert nobodys["failed"] and "declare the credential among objects" in nobodys["msg"]
    assert conflict["failed"] and (conflict["status"], "adopt" in conflict["msg"]) == (409, True)
    foreseen, pruned, kept, emptied = pruning
    assert [one["changed"] for one in pruning] == [True, True, False, True]
    deleted = [("delete", "target", "set-db")]
    for one in (foreseen, pruned):
        gone = [
            (c["action"], c["kind"], c["name"]) for c in one["changes"] if c["action"] != "none"
        ]
        assert gone == deleted
    assert kept["diff"] == [] and emptied["diff"][0]["after"] == {}
    assert SEEDED not in said


def test_a_version_conflict_is_refused_and_the_fresh_version_is_taken(
    ansible: Ansible, bare: Served
) -> None:
    url = {"url": f"unix://{bare.data}/admin.sock"}
    mine = {**url, "name": "versioned", "groups": ["a"], "may": ["audit"]}
    tasks: list[dict[str, Any]] = [
        {ACCESS: mine},
        {ACCESS: {**mine, "groups": ["b"], "if_match": "{{ r0.object.etag }}"}},
        {ACCESS: {**mine, "groups": ["c"], "if_match": "{{ r0.object.etag }}"}, "check_mode": True},
        {ACCESS: {**mine, "groups": ["c"], "if_match": "{{ r0.object.etag }}"}},
        {
            ACCESS: {
                **url,
                "name": "versioned",
                "state": "absent",
                "if_match": "{{ r0.object.etag }}",
            }
        },
        {
            ACCESS: {
                **url,
                "name": "versioned",
                "state": "absent",
                "if_match": "{{ r1.object.etag }}",
            }
        },
    ]
    (_, taken, foreseen, late, spared, gone), _ = ansible.tried(tasks)
    assert taken["object"]["version"] == 2
    for one in (foreseen, late, spared):
        assert (one["failed"], one["status"]) == (True, 412)
        assert "give its object.etag as if_match" in one["msg"]
    assert gone["changed"] and gone["object"] is None


def test_a_secret_among_objects_is_refused_and_not_shown(ansible: Ansible, bare: Served) -> None:
    url = {"url": f"unix://{bare.data}/admin.sock"}
    given = "{{ lookup('ansible.builtin.env', 'SEED') }}"
    credential = {"credential": "open-app", "user": "app"}
    issuer = {"issuer": "open-idp", "url": "https://id.example.com", "audience": "trailgate"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({**credential, "secret": given}, "give it in secrets"),
        ({**credential, "secret": {"value": given}}, "give it in secrets"),
        ({**issuer, "client_secret": given}, "keep it in a file on the gateway's host"),
    ]
    look = {INFO: {**url, "gather": ["credential", "issuer"]}}
    tasks: list[dict[str, Any]] = [{OBJECTS: {**url, "objects": [each]}} for each, _ in wrong]
    (*refused, info), said = ansible.tried([*tasks, look], "-vvv", SEED=SEEDED)
    for result, (_, cure) in zip(refused, wrong, strict=True):
        assert result["failed"] and cure in result["msg"], result
    names = [one["name"] for kind in info["objects"].values() for one in kind]
    assert not [name for name in names if name.startswith("open-")]
    assert SEEDED not in said
