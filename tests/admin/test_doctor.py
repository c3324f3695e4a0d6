# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate doctor`: what is well, what is wrong with its cure, what could not be checked."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.admin.cli import root
from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer
from gateway.record.recipients import make_recipient

FINDING = ["check", "subject", "state", "detail", "cure"]
POLICY = """\
policy: read-only
description: Everybody may read.
match: {targets: ["*"]}
rules:
  - id: read
    allow: {sql: {kinds: [read]}}
"""


def doctor(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    result = CliRunner().invoke(root, ["doctor", "-o", "json", *arguments])
    found = json.loads(result.stdout)
    assert all(list(one) == FINDING for one in found)
    return result.exit_code, found


def states(found: list[dict[str, Any]], check: str) -> list[str]:
    return [one["state"] for one in found if one["check"] == check]


class Place:
    """A gateway's settings, objects, policy and data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        make_recipient(folder / "auditor")
        (folder / "policy.yaml").write_text(POLICY)
        self.declare('recipient: auditor\nkey: {from: "file:auditor/recipient.pub"}\n')
        self.settings = folder / "trailgate.yaml"
        self.settings.write_text(
            f'data: "{self.data}"\nobjects: [objects.yaml]\npolicies: [policy.yaml]\n'
        )

    def declare(self, *objects: str) -> None:
        (self.folder / "objects.yaml").write_text("---\n".join(objects))

    def target(self, port: int, secret: str = "x", user: str = "app") -> None:
        (self.folder / "secret").write_text(secret)
        (self.folder / "secret").chmod(0o600)
        self.declare(
            'recipient: auditor\nkey: {from: "file:auditor/recipient.pub"}\n',
            f"target: orders\nprotocol: postgresql\naddress: 127.0.0.1:{port}\n"
            "credentials: [app]\ndatabases: [postgres]\ntls: {mode: require}\n",
            f'credential: app\nuser: {user}\nsecret: {{from: "file:secret"}}\n',
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def test_all_well_exits_with_0(place: Place) -> None:
    code, found = doctor("--config", str(place.settings))
    assert code == 0, found
    for check in ("settings", "objects", "policies", "data", "recipients", "evidence"):
        assert states(found, check) == ["ok"], check
    assert states(found, "gateway") == ["note"]


def test_wrong_settings_leave_the_rest_unchecked_and_name_the_line(place: Place) -> None:
    place.settings.write_text('data: "x"\nlog_level: loud\n')
    code, found = doctor("--config", str(place.settings))
    assert code == 1
    (wrong,) = [one for one in found if one["check"] == "settings"]
    assert wrong["state"] == "wrong" and ":2:" in wrong["detail"] and wrong["cure"]
    assert states(found, "targets") == states(found, "data") == ["unknown"]


def test_every_wrong_thing_has_a_cure(place: Place, closed_port: int) -> None:
    place.target(closed_port)
    place.data.chmod(0o755)
    (place.folder / "policy.yaml").write_text("policy: x\nrules: 7\n")
    with (place.folder / "objects.yaml").open("a") as file:
        file.write(f"---\nissuer: corp\nurl: http://127.0.0.1:{closed_port}\naudience: t\n")
    code, found = doctor("--config", str(place.settings))
    assert code == 1
    for check in ("targets", "data", "policies", "issuers"):
        assert "wrong" in states(found, check), check
    assert all(one["cure"] for one in found if one["state"] == "wrong")
    assert "orders as app" in [one["subject"] for one in found]


def test_no_recipient_is_wrong(place: Place) -> None:
    place.declare()
    code, found = doctor("--config", str(place.settings))
    assert (code, states(found, "recipients")) == (1, ["wrong"])


def test_a_data_folder_alone_is_checked_for_its_gateway(place: Place) -> None:
    code, found = doctor("--data", str(place.data))
    assert (code, states(found, "settings"), states(found, "gateway")) == (0, [], ["note"])
    gone = socket.socket(socket.AF_UNIX)
    gone.bind(str(place.data / "admin.sock"))
    gone.close()
    code, found = doctor("--data", str(place.data))
    assert (code, states(found, "gateway")) == (1, ["wrong"])
    code, found = doctor("--data", str(place.folder / "none"))
    assert (code, states(found, "data")) == (1, ["wrong"])


def test_the_text_names_the_cure(place: Place) -> None:
    place.data.chmod(0o755)
    result = CliRunner().invoke(root, ["doctor", "--config", str(place.settings)])
    assert result.exit_code == 1
    assert f"next: chmod 700 {place.data}" in result.stdout


@pytest.mark.live
def test_it_logs_in_at_a_real_target_over_tls(place: Place) -> None:
    try:
        server = PostgresServer(tls=True)
    except NoServer as missing:
        pytest.skip(str(missing))
    with server:
        server.psql("CREATE ROLE doctor LOGIN PASSWORD 'right-password'")
        place.target(server.port, "right-password", "doctor")
        code, found = doctor("--config", str(place.settings))
        assert (code, states(found, "targets")) == (0, ["ok"]), found
        place.target(server.port, "wrong-password", "doctor")
        code, found = doctor("--config", str(place.settings))
        assert (code, states(found, "targets")) == (1, ["wrong"])
        assert "wrong-password" not in json.dumps(found)


def test_a_store_that_cannot_be_written_or_reached_is_wrong(place: Place, closed_port: int) -> None:
    settings = place.settings.read_text()
    assert states(doctor("--config", str(place.settings))[1], "store") == ["ok"]
    for store in (
        str(place.folder / "none" / "state.sqlite"),
        str(place.folder),
        f"postgresql://app:hunter2@127.0.0.1:{closed_port}/state",
    ):
        place.settings.write_text(f'{settings}store: "{store}"\n')
        code, found = doctor("--config", str(place.settings))
        assert (code, states(found, "store")) == (1, ["wrong"]), store
        assert "hunter2" not in json.dumps(found)


@pytest.mark.live
def test_it_asks_the_server_that_keeps_the_state(place: Place) -> None:
    try:
        server = PostgresServer(tls=True)
    except NoServer as missing:
        pytest.skip(str(missing))
    with server:
        server.psql(
            "CREATE ROLE reader LOGIN PASSWORD 'x'; REVOKE CREATE ON SCHEMA public FROM public"
        )
        settings = place.settings.read_text()
        proven = f"sslmode=verify-full&sslrootcert={server.ca_path}"
        reader = f"postgresql://reader:x@127.0.0.1:{server.port}/postgres?{proven}"
        for url, said in (
            (f"{server.url()}?{proven}", ["ok"]),
            (reader, ["wrong"]),
            (reader.replace(":x@", ":wrong@"), ["wrong"]),
        ):
            place.settings.write_text(f'{settings}store: "{url}"\n')
            _, found = doctor("--config", str(place.settings))
            assert states(found, "store") == said, found
            assert server.password not in json.dumps(found)
        before = server.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert before == "0"
