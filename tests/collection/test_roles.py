# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles write, as Ansible writes it: shown where it may be, and never a secret."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.config import load_settings
from tests.collection.conftest import Ansible
from tests.collection.leaks import files_with, holds, process_list

DSN = "postgresql://trailgate:s3eded-in-a-DSN@localhost/trailgate"
SECRETS = {
    "DSN": "s3eded-in-a-DSN",
    "ENVIRONMENT": "s3eded-in-the-environment",
    "OBJECTS": "s3eded-for-the-vault",
}
KEY = "trailgate-recipient-x25519 zH3qu74iU2My+A9suI9wzXtP6BHxB4aBGdqO/18WKkI="
ROLE = "trailgate.gateway.trailgate"
OWNERS = {
    "trailgate_owner": pwd.getpwuid(os.geteuid()).pw_name,
    "trailgate_user": grp.getgrgid(os.getegid()).gr_name,
}
"""Whom the role's files belong to, where it is not root who writes them."""
SETTINGS: list[dict[str, Any]] = [
    {"ansible.builtin.include_role": {"name": ROLE, "tasks_from": "settings"}},
    # Handlers restart a service that is not on this machine.
    {"ansible.builtin.meta": "end_play"},
]


@pytest.fixture
def own(ansible: Ansible, tmp_path: Path) -> Ansible:
    return replace(ansible, folder=tmp_path)


def variables(folder: Path, **more: Any) -> dict[str, Any]:
    """The role's, with its folders below `folder`."""
    (folder / "etc").mkdir(exist_ok=True)
    return {
        "trailgate_release": str(Path(sys.executable).parents[1]),
        "trailgate_etc": str(folder / "etc"),
        "trailgate_data": str(folder / "data"),
        **OWNERS,
        "trailgate_master_key_path": str(folder / "etc" / "master.key"),
        "trailgate_node": "gw1",
        "trailgate_recipients": [{"name": "auditor", "key": KEY}],
        "trailgate_environment": {"AWS_SECRET_ACCESS_KEY": SECRETS["ENVIRONMENT"]},
        "trailgate_secrets": {"orders-app": SECRETS["OBJECTS"]},
        **more,
    }


def deployed(
    ansible: Ansible,
    given: dict[str, Any],
    tasks: list[dict[str, Any]] = SETTINGS,
    *words: str,
) -> subprocess.CompletedProcess[str]:
    path = ansible.folder / "variables.json"
    path.write_text(json.dumps(given))
    return ansible.play(tasks, "-vvv", "-e", f"@{path}", *words)


def changes(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.rpartition("changed=")[2].split()[0])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def added(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The lines that the diffs say are new."""
    lines = done.stdout.splitlines()
    return {line[1:] for line in lines if line.startswith("+") and not line.startswith("+++")}


def test_changed_settings_are_shown_and_secrets_among_them_are_not(own: Ansible) -> None:
    given = variables(own.folder, trailgate_store=DSN)
    said = []
    with process_list() as seen:
        said.append(first := deployed(own, given))
        said.append(again := deployed(own, given))
        given["trailgate_url"] = "https://gw:8443"
        said.append(moved := deployed(own, given))
        given["trailgate_store"] = DSN.replace("localhost", "127.0.0.1")
        said.append(elsewhere := deployed(own, given))
    assert (changes(first), changes(again), changes(moved), changes(elsewhere)) == (5, 0, 1, 1)
    assert "node: gw1" in added(first) and added(moved) == {"url: https://gw:8443"}
    assert added(elsewhere) == set()
    for done in said:
        assert not holds((done.stdout + done.stderr).encode(), SECRETS.values())
    assert not [line for line in seen if holds(line, SECRETS.values())]
    etc = own.folder / "etc"
    settings, mistakes = load_settings(etc / "trailgate.yaml")
    assert mistakes == () and "127.0.0.1" in str(settings.store_place)
    names = {path.name: path.stat().st_mode & 0o777 for path in files_with(SECRETS.values(), etc)}
    assert names == {"store-uri": 0o640, "environment": 0o600}


@pytest.mark.parametrize("place", ["settings", "variable"])
def test_a_store_may_stand_among_the_settings_and_go_again(own: Ansible, place: str) -> None:
    store = {"trailgate_store": DSN} if place == "variable" else {}
    settings = {"trailgate_settings": {"store": DSN}} if place == "settings" else {}
    etc = own.folder / "etc"
    first = deployed(own, variables(own.folder, **store, **settings))
    assert changes(first) == 5 and not holds(first.stdout.encode(), SECRETS.values())
    assert (etc / "store-uri").read_text() == f"{DSN}\n"
    assert changes(deployed(own, variables(own.folder, trailgate_store="/srv/state.sqlite"))) == 2
    assert not (etc / "store-uri").exists()
    assert yaml.safe_load((etc / "trailgate.yaml").read_text())["store"] == "/srv/state.sqlite"


def test_a_mistake_is_named_and_the_settings_stay(own: Ansible) -> None:
    etc = own.folder / "etc"
    assert changes(deployed(own, variables(own.folder, trailgate_store=DSN))) == 5
    before = contents(etc)
    wrong = [
        ({"trailgate_settings": {"limits": {"conections": 5}}}, ("conections", "connections")),
        ({"trailgate_store": f"mysql:{DSN}"}, ("neither a file nor a PostgreSQL URI", "write a")),
    ]
    for given, cure in wrong:
        done = deployed(own, variables(own.folder, **{"trailgate_store": f"{DSN}2", **given}))
        assert done.returncode != 0 and not [word for word in cure if word not in done.stdout]
        assert not holds(done.stdout.encode(), SECRETS.values())
        assert contents(etc) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trailgate_secrets", SECRETS["OBJECTS"]),
        ("trailgate_secrets", [SECRETS["OBJECTS"]]),
        ("trailgate_environment", SECRETS["ENVIRONMENT"]),
    ],
)
def test_a_secret_of_the_wrong_type_is_refused_and_not_shown(
    own: Ansible, name: str, value: Any
) -> None:
    role: list[dict[str, Any]] = [{"ansible.builtin.import_role": {"name": ROLE}}]
    # Of the role's tasks only the one that looks at the arguments has this tag.
    done = deployed(own, {**variables(own.folder), name: value}, role, "--tags", "always")
    assert done.returncode != 0 and "Validation of arguments failed" in done.stdout
    assert name in done.stdout
    assert not holds((done.stdout + done.stderr).encode(), SECRETS.values())


@pytest.mark.live
def test_the_service_account_gets_its_password_once_and_nobody_sees_it(
    own: Ansible, shop: PostgresServer
) -> None:
    password = "s3eded 'quoted' \\and more"
    given = {
        "postgres_target_user": "role-app",
        "postgres_target_password": password,
        "postgres_target_databases": ["shop"],
        "postgres_target_grants": ['GRANT SELECT ON customers TO "role-app"'],
        # The server is this user's own, and its superuser signs in by password.
        "ansible_become": False,
    }
    names = {"name": "trailgate.gateway.postgres_target", "tasks_from": "account"}
    server = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(shop.port),
        "PGUSER": "postgres",
        "PGPASSFILE": str(own.folder / "pgpass"),
    }
    (own.folder / "pgpass").write_text(f"*:*:*:*:{shop.password}\n")
    (own.folder / "pgpass").chmod(0o600)
    tasks: list[dict[str, Any]] = [
        {"ansible.builtin.include_role": names | {"apply": {"environment": server}}}
    ]
    with process_list() as seen:
        first = deployed(own, given, tasks)
        again = deployed(own, {**given, "postgres_target_password": "s3eded-another"}, tasks)
    assert (changes(first), changes(again)) == (2, 0)
    dsn = f"host=127.0.0.1 port={shop.port} dbname=shop user=role-app"
    with psycopg.connect(dsn, password=password) as link:
        assert link.execute("select count(*) from customers").fetchone() == (2,)
    secrets = [password, "s3eded-another", shop.password]
    for done in (first, again):
        assert not holds((done.stdout + done.stderr).encode(), secrets)
    assert not [line for line in seen if holds(line, secrets)]
    assert not holds(shop.log.read_bytes(), secrets)
