# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports against the schemas of those who read them: OCSF 1.8, asciicast v2."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from gateway.admin.cli.output import visible
from gateway.ship.exports.asciicast import cast
from gateway.ship.exports.ocsf import CLASSES, activity_of, event
from tests.examples import examples
from tests.ship.activities import SESSION, login, operation

HEADER = {
    "type": "object",
    "required": ["version", "width", "height"],
    "properties": {
        "version": {"const": 2},
        "width": {"type": "integer", "minimum": 1},
        "height": {"type": "integer", "minimum": 1},
        "timestamp": {"type": "integer"},
        "title": {"type": "string"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "additionalProperties": False,
}
EVENT = {
    "type": "array",
    "prefixItems": [{"type": "number", "minimum": 0}, {"enum": ["o"]}, {"type": "string"}],
    "items": False,
    "minItems": 3,
}
DOCUMENT: dict[str, Any] = {
    "id": SESSION, "target": "orders", "chain": ["alice", "reader"],
    "opened": "2026-11-24T12:00:00.000000Z", "closed": "2026-11-24T12:01:00.000000Z",
}  # fmt: skip


@cache
def validator(class_uid: int) -> Draft202012Validator:
    """The schema of OCSF 1.8 itself, with its constraints and enumerations."""
    made = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
    return Draft202012Validator(made.get_class_schema(CLASSES[class_uid], ["security_control"]))


def check(told: dict[str, Any]) -> dict[str, Any]:
    errors = [f"{one.json_path}: {one.message[:200]}" for one in
              validator(told["class_uid"]).iter_errors(told)]  # fmt: skip
    assert errors == []
    return told


VARIANTS = [
    operation(),
    operation(verdict="deny", status_id=2, action_id=2, reason="no", rule=None, severity_id=3),
    operation(verdict="would_deny", policy="shop", policy_version=None),
    operation(verdict="hold", status_id=0),
    operation(verdict=None, policy=None, statement=None, objects=[], activity_id=99),
    operation(objects=[{"name": "now", "access": "call"}], text="select now()"),
    operation(client=None, target=None, origin=None, chain=[], groups=[], user=None),
    operation(client="[::1]:70000"),
    operation(client="2001:db8::1:5000", sqlstate="42P01", rows=None, bytes=None),
    *(operation(activity_id=number) for number in (2, 4, 5, 6, 7)),
    login(),
    login("close", reason="client"),
    login(client=None, chain=[], origin=None),
]


@pytest.mark.parametrize("activity", VARIANTS)
def test_an_event_is_of_ocsfs_own_schema(activity: dict[str, Any]) -> None:
    told = check(event(activity))
    assert told["type_uid"] == told["class_uid"] * 100 + told["activity_id"]
    assert told["unmapped"]["session"] == SESSION
    assert told["time"] == 1795521600000


TEXT = st.none() | st.text(max_size=20)


@given(TEXT, TEXT, TEXT, st.lists(st.text(max_size=9), max_size=4), TEXT)
@settings(max_examples=examples(10))
def test_whatever_a_record_holds_the_event_is_sound(
    client: str | None, origin: str | None, reason: str | None, chain: list[str], tag: str | None
) -> None:
    odd = {"client": client, "origin": origin, "reason": reason, "chain": chain, "tag": tag}
    check(event(operation(**odd)))
    check(event(login(client=client, origin=origin, chain=chain)))


def test_the_chain_and_the_decision_stand_in_the_event() -> None:
    told = event(operation(verdict="deny", action_id=2, status_id=2, rule="no-drop"))
    assert (told["actor"]["user"]["name"], told["actor"]["app_name"]) == ("alice", "reader")
    assert told["actor"]["user"]["groups"] == [{"name": "data"}]
    assert told["unmapped"]["chain"] == ["alice", "boss", "reader"]
    assert told["unmapped"]["ancestors"] == ["g_1", "g_2"]
    assert (told["action"], told["disposition"]) == ("Denied", "Blocked")
    assert (told["severity"], told["status"]) == ("Medium", "Failure")
    assert told["src_endpoint"] == {"ip": "10.0.0.9", "port": 5000}
    assert told["table"] == {"name": "customers"}


@pytest.mark.parametrize(
    ("kinds", "activity"),
    [
        (["select"], 4), (["insert"], 5), (["update"], 2), (["delete"], 7), (["truncate"], 7),
        (["create_role"], 6), (["create"], 6), (["drop_database"], 7), (["alter"], 2),
        (["transaction", "select"], 4), (["select", "delete"], 7), (["vacuum"], 99), ([], 99),
    ],
)  # fmt: skip
def test_activities_by_the_kinds_of_statements(kinds: list[str], activity: int) -> None:
    assert activity_of(kinds) == activity


# --- asciicast ---------------------------------------------------------------------------------


def told(number: int, text: Any, **more: Any) -> dict[str, Any]:
    return {
        "seq": number,
        "started": f"2026-11-24T12:00:{number:02}.500000Z",
        "ended": f"2026-11-24T12:00:{number:02}.750000Z",
        "request": {"text": text, "parameters": []},
        "decision": {"verdict": "allow"},
        "outcome": {"tag": "SELECT 1", "rows": 1, "bytes": 9, "error": None},
        "results": [],
        **more,
    }


def operations() -> Iterator[dict[str, Any]]:
    one = {"columns": ["id", "name"], "rows": [["1", "Ada"], ["2", None]]}
    yield told(1, "select id, name\nfrom customers", results=[one])
    yield told(2, "drop table customers", decision={"verdict": "deny", "policy": "shop",
               "rule": "no-drop", "reason": "no"},
               outcome={"tag": None, "error": {"message": "trailgate: denied"}})  # fmt: skip
    yield told(3, "insert", outcome={"tag": "INSERT 0 1", "error": None})
    piece = {"columns": ["n"], "rows": [["1"]]}
    yield {**told(4, "select n", results=[piece]), "part": 1}
    yield {**told(4, "select n", results=[piece]), "part": 2}
    yield told(5, "\x1b]0;evil\x07\u202eselect", results=[{"copy": {"direction": "out",
               "bytes": 7}}])  # fmt: skip
    yield told(6, {"base64": "/w=="}, request={"text": {"base64": "/w=="}, "parameters": ["x"]})
    yield told(7, None, started=None, ended=None)


def lines() -> list[str]:
    return list(cast(DOCUMENT, operations(), lambda text: visible(text, lines=True)))


def test_a_cast_is_of_version_2() -> None:
    header, *events = (json.loads(line) for line in lines())
    Draft202012Validator(HEADER).validate(header)
    for one in events:
        Draft202012Validator(EVENT).validate(one)
    times = [one[0] for one in events]
    assert times == sorted(times) and times[-1] == 60.0
    assert next(at for at, _, text in events if "from customers" in text) == 1.5
    assert next(at for at, _, text in events if "Ada" in text) == 1.75


def test_a_cast_shows_what_psql_would() -> None:
    shown = "".join(json.loads(line)[2] for line in lines()[1:])
    assert "id | name\r\n---+-----\r\n1  | Ada\r\n2  |\r\n" in shown
    assert "(2 rows)" in shown and "INSERT 0 1" in shown
    assert "ERROR:  trailgate: denied" in shown and "deny: shop/no-drop: no" in shown
    assert shown.count("n\r\n-\r\n") == 1  # one heading over both pieces
    assert "\\xff" in shown and "-- with x" in shown and "(sealed)" in shown


def test_recorded_text_does_not_drive_the_terminal() -> None:
    shown = "".join(json.loads(line)[2] for line in lines()[1:])
    assert "\x1b]0;" not in shown and "\x07" not in shown and "\u202e" not in shown
    assert "\\x1b]0;evil\\x07\\u{202e}select" in shown


def test_the_player_plays_it(tmp_path: Path) -> None:
    """asciinema itself, without a terminal."""
    path = tmp_path / "session.cast"
    path.write_text("".join(lines()))
    played = subprocess.run(
        [sys.executable, "-m", "asciinema", "cat", str(path)], capture_output=True, timeout=60
    )
    assert played.returncode == 0, played.stderr
    assert b"Ada" in played.stdout and b"ERROR:  trailgate: denied" in played.stdout
