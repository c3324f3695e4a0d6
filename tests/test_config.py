# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings and objects: every mistake at its place, YAML 1.2 core, secrets that stay secret."""

from __future__ import annotations

import json
import logging
from io import StringIO
from pathlib import Path

import pytest

from gateway.config import Address, ConfigError, Settings, Wrong, load_objects, load_settings
from gateway.logs import configure

TARGET = """
target: orders
protocol: postgresql
address: db1.internal:5432
credentials: [app]
---
credential: app
user: app
secret: {from: "file:secret"}
"""


def settings_of(text: str, folder: Path) -> Settings:
    return load_settings(folder / "trailgate.yaml", text)[0]


def mistakes_of(text: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_settings(folder / "trailgate.yaml", text)
    return [str(mistake).removeprefix(f"{folder}/") for mistake in raised.value.mistakes]


def objects_file(folder: Path, text: str) -> Path:
    (folder / "secret").write_text("hunter2\n")
    (folder / "secret").chmod(0o600)
    path = folder / "objects.yaml"
    path.write_text(text)
    return path


def object_mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_objects([objects_file(folder, text)])
    return [str(mistake).removeprefix(f"{folder}/") for mistake in raised.value.mistakes]


def test_settings_have_defaults_for_all_but_the_data_folder(tmp_path: Path) -> None:
    settings = settings_of("data: d", tmp_path)
    assert settings.data == tmp_path / "d"
    assert settings.store_place == tmp_path / "d" / "state.sqlite"
    assert settings.evidence.durability == "process"
    assert settings.limits.drain_seconds == 30.0


def test_every_mistake_is_reported_at_once_with_its_place_and_cure(tmp_path: Path) -> None:
    text = (
        "nodes: x\nnode: 5\nlisteners: {postgresq: 127.0.0.1:1, https: nowhere}\n"
        "evidence: {durability: disc}\nlimits: [a]\nlog_level: info\nlog_level: debug\n"
    )
    assert mistakes_of(text, tmp_path) == [
        "trailgate.yaml:1:1: unknown key 'nodes'; did you mean 'node'?",
        "trailgate.yaml:1:1: the key 'data' is missing; add it",
        "trailgate.yaml:2:7: node: expected text, found a whole number; put it in quotes",
        "trailgate.yaml:3:13: listeners: 'postgresq' is no protocol; did you mean 'postgresql'?",
        "trailgate.yaml:3:44: listeners.https: 'nowhere' is not an address; write HOST:PORT",
        "trailgate.yaml:4:24: evidence.durability: 'disc' is not one of its words; "
        "did you mean 'disk'?",
        "trailgate.yaml:5:9: limits: expected a mapping, found a list; "
        "write KEY: VALUE lines, or {KEY: VALUE}",
        f"trailgate.yaml:7:1: the key 'log_level' stands twice; "
        f"first at {tmp_path}/trailgate.yaml:6:1",
    ]


@pytest.mark.parametrize("word", ["on", "no", "y", "off", "22:00", "2026-01-01"])
def test_words_that_yaml_1_1_would_turn_into_something_else_stay_text(
    tmp_path: Path, word: str
) -> None:
    objects, _ = load_objects(
        [
            objects_file(
                tmp_path, TARGET.replace("credentials", f"labels: {{a: {word}}}\ncredentials")
            )
        ]
    )
    assert objects.targets["orders"].labels == {"a": word}


def test_a_file_that_is_not_yaml_is_one_mistake_at_its_place(tmp_path: Path) -> None:
    (mistake,) = mistakes_of("data: [a\nnode: x: y", tmp_path)
    assert mistake.startswith("trailgate.yaml:2:")
    assert "not valid YAML" in mistake


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")


def test_objects_become_a_catalogue(tmp_path: Path) -> None:
    objects, warnings = load_objects([objects_file(tmp_path, TARGET)])
    target = objects.target("orders")
    credential = objects.credential("app")
    assert target is not None and credential is not None
    assert (target.host, target.port) == ("db1.internal", 5432)
    assert target.tls.mode == "verify-full"
    assert credential.secret == "hunter2"
    assert warnings == ()


def test_a_protocols_own_options_are_keys_of_its_targets(tmp_path: Path) -> None:
    text = TARGET.replace("credentials", "text_limit: 4096\ncredentials", 1)
    objects, _ = load_objects([objects_file(tmp_path, text)])
    options = objects.targets["orders"].options
    assert getattr(options, "text_limit", None) == 4096


def test_a_wrong_option_of_a_protocol_is_a_mistake(tmp_path: Path) -> None:
    text = TARGET.replace("credentials", "text_limit: 5\ncredentials", 1)
    assert any("at least 1024 bytes" in line for line in object_mistakes(tmp_path, text))


def test_a_secret_written_in_the_file_is_taken_and_warned_about(tmp_path: Path) -> None:
    text = TARGET.replace('{from: "file:secret"}', "hunter2")
    objects, warnings = load_objects([objects_file(tmp_path, text)])
    assert objects.credentials["app"].secret == "hunter2"
    assert ["the secret stands in the file" in str(warning) for warning in warnings] == [True]
    assert "hunter2" not in str(warnings) + repr(objects)


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ('{from: "file:gone"}', "cannot be read"),
        ('{from: "vault-kv:x"}', "not in this version"),
        ("[hunter2]", "expected a mapping"),
        ("{form: x}", "did you mean 'from'?"),
        ("12345", "put it in quotes"),
    ],
)
def test_a_wrong_secret_is_a_mistake_that_does_not_print_it(
    tmp_path: Path, secret: str, says: str
) -> None:
    found = "\n".join(object_mistakes(tmp_path, TARGET.replace('{from: "file:secret"}', secret)))
    assert says in found
    assert "hunter2" not in found and "12345" not in found


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[app]", "[ap]", "no credential 'ap'; did you mean 'app'?"),
        ("[app]", "[]", "the list is empty"),
        ("protocol: postgresql", "protocol: postgres", "did you mean 'postgresql'?"),
        ("target: orders", "webhook: orders", "not in this version"),
        ("target: orders", "targe: orders", "did you mean 'target'?"),
        ("db1.internal:5432", "db1.internal", "write HOST:PORT"),
        ("credentials: [app]", "plain: true\ncredentials: [app]", "need a loopback listener"),
        ("credential: app", "credential: app\ntls: x", "unknown key"),
        ('secret: {from: "file:secret"}', "", "has no secret"),
    ],
)
def test_a_wrong_object_is_a_mistake_with_a_cure(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert says in "\n".join(object_mistakes(tmp_path, TARGET.replace(old, new, 1)))


def test_an_object_declared_twice_names_both_places(tmp_path: Path) -> None:
    (mistake,) = object_mistakes(tmp_path, TARGET + "---" + TARGET.partition("---")[2])
    assert "credential app is declared twice" in mistake
    assert "objects.yaml:7:1" in mistake


@pytest.mark.parametrize(
    ("text", "host", "port"), [("a:1", "a", 1), ("[::1]:5", "::1", 5), ("/run/x:2", "/run/x", 2)]
)
def test_addresses_are_read(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "::1:5", "a:70000", "a:-1", "a:\u0661"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        Address.parse(text)


def test_logs_are_json_lines_without_tokens() -> None:
    stream, token = StringIO(), "tg_" + "A" * 49
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure("info", stream)
        logging.getLogger("x").info("login with %s", token, extra={"url": "p://u:pw@h", "n": 1})
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    line = json.loads(stream.getvalue())
    assert line["message"] == "login with ***"
    assert (line["url"], line["n"], line["level"]) == ("p://***@h", 1, "info")
