# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module of an object, by the examples of its own documentation, on a live gateway."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.collection.conftest import Ansible
from tests.collection.stage import ROOT
from tests.live.test_serve import Served

pytestmark = pytest.mark.live

ORDER = (
    "credential",
    "target",
    "policy",
    "access",
    "issuer",
    "agent",
    "person",
    "recipient",
    "retention",
    "legal_hold",
)
"""What others refer to comes first."""
SEEDED = "s3eded-Secret"


def examples(module: str) -> list[dict[str, Any]]:
    text = (ROOT / "plugins" / "modules" / f"{module}.py").read_text()
    found = re.search(r'^EXAMPLES = r"""\n(.*?)^"""', text, re.S | re.M)
    assert found is not None, module
    tasks: list[dict[str, Any]] = yaml.safe_load(found[1])
    return tasks


def placed(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: placed(inner, places) for key, inner in value.items()}
    if isinstance(value, list):
        return [placed(inner, places) for inner in value]
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace(name, place)
        return value.replace("{{ vault_orders_password }}", SEEDED)
    return value


def is_present(task: dict[str, Any]) -> bool:
    return not any(isinstance(v, dict) and v.get("state") == "absent" for v in task.values())


Runs = dict[str, list[list[Any]]]


@pytest.fixture(scope="session")
def runs(ansible: Ansible, bare: Served, places: dict[str, str]) -> Runs:
    """Per kind, what each example's three runs returned: in check mode, then twice for good."""
    url = {"url": f"unix://{bare.data}/admin.sock"}
    ci = {**url, "name": "ci", "issuer_url": "https://ci.example.com", "audience": "trailgate"}
    tasks = [{"trailgate.gateway.issuer": ci}]
    counts = []
    for kind in ORDER:
        present = [task for task in placed(examples(kind), places) if is_present(task)]
        counts.append(len(present))
        for task in present:
            tasks += [{**task, "check_mode": True}, task, task]
    (_, *results), said = ansible.tried(tasks, "-vvv")
    assert SEEDED not in said
    triples = iter([results[index : index + 3] for index in range(0, len(results), 3)])
    return {
        kind: [next(triples) for _ in range(count)]
        for kind, count in zip(ORDER, counts, strict=True)
    }


@pytest.mark.parametrize("kind", ORDER)
def test_an_example_is_predicted_done_and_then_done_already(kind: str, runs: Runs) -> None:
    assert runs[kind]
    for predicted, done, again in runs[kind]:
        told = [one.get("msg") for one in (predicted, done, again)]
        assert told == [None, None, None]
        assert (predicted["changed"], done["changed"], again["changed"]) == (True, True, False)
        assert predicted["object"] is None, "a prediction made something"
        assert done["object"]["version"] == 1 and again["object"]["version"] == 1
        assert done["object"]["managed_by"] == "ansible"
        assert predicted["diff"]["before"] == done["diff"]["before"] == {}
        assert predicted["diff"]["after"] == done["diff"]["after"]
        assert again["diff"]["before"] == again["diff"]["after"] == done["diff"]["after"]
        assert SEEDED not in str(predicted) + str(done) + str(again)


def test_an_object_is_changed_and_taken_away(
    ansible: Ansible, bare: Served, places: dict[str, str]
) -> None:
    url = {"url": f"unix://{bare.data}/admin.sock"}
    access = {**url, "name": "brief", "groups": ["a"], "may": ["audit"]}
    gone = {**url, "name": "brief", "state": "absent"}
    module = "trailgate.gateway.access"
    made, changed, foreseen, removed, again = ansible.results(
        [
            {module: access},
            {module: {**access, "groups": ["b"]}},
            {module: gone, "check_mode": True},
            {module: gone},
            {module: gone},
        ]
    )
    assert changed["diff"]["before"]["groups"] == ["a"] and changed["diff"]["after"]["groups"] == [
        "b"
    ]
    assert (made["changed"], changed["object"]["version"]) == (True, 2)
    assert (foreseen["changed"], removed["changed"], again["changed"]) == (True, True, False)
    assert removed["object"] is None and removed["diff"]["after"] == {}


def test_anothers_object_is_left_alone_unless_adopted(ansible: Ansible, bare: Served) -> None:
    module = "trailgate.gateway.access"
    mine = {
        "url": f"unix://{bare.data}/admin.sock",
        "name": "shared",
        "groups": ["a"],
        "may": ["audit"],
    }
    theirs = {**mine, "managed_by": "terraform:prod"}
    refused = ansible.play([{module: mine}, {module: theirs}])
    assert refused.returncode != 0
    assert "managed by ansible" in refused.stdout and "adopt" in refused.stdout
    (adopted,) = ansible.results([{module: {**theirs, "adopt": True}}])
    assert adopted["object"]["managed_by"] == "terraform:prod"


WRONG_TOKEN = "tg_wrong-s3eded"
URL_PASSWORD = "s3eded-in-a-url"
USERINFO = f"https://me:{URL_PASSWORD}@gateway.example.com"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": "https://127.0.0.1:1"}, "no gateway answers at https://127.0.0.1:1"),
    ({"url": "http://gateway.example.com"}, "no place where a token is safe"),
    ({"url": ""}, "which gateway?"),
    ({"url": "unix:///nowhere/admin.sock"}, "no gateway answers at unix:///nowhere/admin.sock"),
    ({"url": "API"}, "is not trusted"),
    ({"url": "API", "ca_path": "/nowhere/ca.pem"}, "name the gateway's CA as a PEM file"),
    (
        {"url": "API", "ca_path": "CA", "token": "{{ lookup('ansible.builtin.env', 'WRONG') }}"},
        "give a token that is in force",
    ),
    ({"url": "API", "ca_path": "CA"}, "send a token"),
    ({"may": ["everything"]}, "value of may must be one or more of"),
    ({"nonsense": 1}, "Unsupported parameters"),
    ({"groups": None}, "groups"),
    ({"url": USERINFO}, "give the token as token"),
    ({"url": "https://gateway:port"}, "write https://HOST:PORT"),
    ({"url": "API", "ca_path": "CA", "timeout": -1}, "no length of time"),
    ({"url": "API", "ca_path": "CA", "token": "two words"}, "more than one word"),
    ({"name": "no/name"}, "use letters, digits"),
    ({"name": ""}, "use letters, digits"),
    ({"managed_by": "Not A Manager"}, "managed_by"),
    ({"issuers": ["nobody"]}, "nobody"),
    ({"if_match": "1"}, "entity tags"),
    ({"if_match": '"1-0123456789abcdef"'}, "give its object.etag as if_match"),
    ({"if_match": "*"}, "give its object.etag as if_match"),
    ({"state": "absent", "if_match": "*"}, "give its object.etag as if_match"),
]


def test_bad_input_is_refused_with_a_cure_and_nothing_is_done(
    ansible: Ansible, bare: Served
) -> None:
    url = f"unix://{bare.data}/admin.sock"
    places = {"API": f"https://127.0.0.1:{bare.api}", "CA": bare.ca}
    options = {"url": url, "name": "never", "groups": ["a"], "may": ["audit"]}
    given = [placed({**options, **each}, places) for each, _ in WRONG]
    given = [{key: value for key, value in one.items() if value is not None} for one in given]
    look = {"trailgate.gateway.gateway_info": {"url": url, "gather": ["access"]}}
    tasks: list[dict[str, Any]] = [{"trailgate.gateway.access": one} for one in given]
    (*results, info), said = ansible.tried([*tasks, look], "-vvv", WRONG=WRONG_TOKEN)
    for result, (each, cure) in zip(results, WRONG, strict=True):
        assert result["failed"] and cure in result["msg"], (each, result)
        assert URL_PASSWORD not in result["msg"]
    assert "never" not in [one["name"] for one in info["objects"]["access"]]
    assert WRONG_TOKEN not in said


def test_a_wrong_reference_names_itself(ansible: Ansible, bare: Served) -> None:
    task = {
        "trailgate.gateway.target": {
            "url": f"unix://{bare.data}/admin.sock",
            "name": "lost",
            "protocol": "postgresql",
            "address": "db:5432",
            "credentials": ["nobody"],
        }
    }
    done = ansible.play([task])
    assert done.returncode != 0 and "nobody" in done.stdout


def test_a_secret_is_shown_nowhere(ansible: Ansible, bare: Served) -> None:
    module = "trailgate.gateway.credential"
    options = {"url": f"unix://{bare.data}/admin.sock", "name": "seeded", "user": "app"}
    secret = {**options, "secret": SEEDED}
    done = ansible.play(
        [
            {module: {**secret}, "check_mode": True},
            {module: secret},
            {module: {**secret, "update_secret": "always"}},
            {module: {**secret, "user": "other"}},
        ],
        "-vvv",
    )
    assert done.returncode == 0, done.stdout
    assert SEEDED not in done.stdout + done.stderr
    log = (bare.folder / "log").read_text()
    assert SEEDED not in log
    kept = [path for path in bare.data.rglob("*") if path.is_file()]
    assert not [path for path in kept if SEEDED.encode() in path.read_bytes()]


def test_a_secret_that_a_rotation_may_have_made_is_not_written_over(
    ansible: Ansible, bare: Served
) -> None:
    module = "trailgate.gateway.credential"
    options = {
        "url": f"unix://{bare.data}/admin.sock",
        "name": "kept",
        "user": "app",
        "secret": SEEDED,
    }
    first, second, always = ansible.results(
        [{module: options}, {module: options}, {module: {**options, "update_secret": "always"}}]
    )
    assert (first["secret_changed"], second["secret_changed"], always["secret_changed"]) == (
        True,
        False,
        True,
    )
    assert (second["changed"], always["changed"]) == (False, True)


def test_check_mode_tells_a_mistake_too(ansible: Ansible, bare: Served) -> None:
    wrong = {"url": f"unix://{bare.data}/admin.sock", "name": "wrong", "rules": [{"id": "x"}]}
    done = ansible.play([{"trailgate.gateway.policy": wrong}], "--check")
    assert done.returncode != 0 and "x" in done.stdout
