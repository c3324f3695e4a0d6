# SPDX-License-Identifier: GPL-3.0-or-later
"""The module `rotation` at a real server, and where the secrets of such a run are to be found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.collection.conftest import Ansible
from tests.collection.leaks import files_with, holds, process_list
from tests.live.rotating_world import accounts, asked, rotating, seed
from tests.live.test_rotation import kept_secrets
from tests.live.test_serve import Served, serving

pytestmark = pytest.mark.live

MODULE = "trailgate.gateway.rotation"


@pytest.fixture
def rotated(shop: PostgresServer, tmp_path: Path) -> Iterator[tuple[Served, dict[str, str]]]:
    made = accounts(shop)
    with serving(tmp_path, rotating(tmp_path, shop, "admin")) as served:
        seed(served, made, "admin")
        yield served, made


def signs_in(served: Served) -> bool:
    dsn = served.dsn(served.token("data"), user="keeper")
    with psycopg.connect(dsn, autocommit=True) as link:
        return link.execute("select current_user").fetchone() == ("keeper",)


def test_it_is_predicted_done_and_spared_while_young_and_no_secret_is_anywhere(
    ansible: Ansible, rotated: tuple[Served, dict[str, str]], shop: PostgresServer
) -> None:
    served, made = rotated
    url = {"url": f"unix://{served.data}/admin.sock"}
    young = {MODULE: {**url, "name": "app", "max_age": "1d"}}
    force = {MODULE: {**url, "name": "app", "force": True}}
    credential = {**url, "user": "keeper"}
    given = "{{ lookup('ansible.builtin.env', 'SEED') }}"
    declared = {
        **url,
        "objects": [{"credential": "by-objects", "user": "keeper"}],
        "secrets": {"by-objects": given},
    }
    wrong = [
        ({"name": "app"}, "set max_age, or force: true"),
        ({"name": "app", "max_age": "soon"}, "write 90s, 15m, 8h or 30d"),
        ({"name": "nobody", "force": True}, "no credential has this name"),
        ({"name": "a/b", "force": True}, "use letters, digits"),
        ({"name": "owner", "force": True}, "rotation"),
    ]
    tasks = [
        {"trailgate.gateway.credential": {**credential, "name": "by-module", "secret": given}},
        {"trailgate.gateway.objects": declared},
        {**young, "check_mode": True},
        {**force, "check_mode": True},
        young,
        force,
        young,
        *({MODULE: {**url, **each}} for each, _ in wrong),
        {MODULE: {**url, "name": "owner", "force": True}, "check_mode": True},
    ]
    seeded = "s3eded-by-ansible-0123456789"
    with process_list() as seen:
        found, said = ansible.tried(tasks, "-vvv", SEED=seeded, ANSIBLE_PIPELINING="false")
    by_module, by_objects, *rest = found
    assert by_module["secret_changed"] and by_objects["changed"]
    predicted_young, predicted, spared, done, spared_again, *failed, foreseen = rest
    assert [one["changed"] for one in rest[:5]] == [False, True, False, True, False]
    assert predicted_young["rotation"] is predicted["rotation"] is spared["rotation"] is None
    assert done["rotation"]["version"] == 2 and spared_again["rotation"] is None
    assert done["rotation"]["outcome"] in (None, "done")
    for result, (each, cure) in zip(failed, wrong, strict=True):
        assert result["failed"] and cure in result["msg"], (each, result)
    assert foreseen["failed"] and "rotation" in foreseen["msg"]
    assert signs_in(served)

    current = {secret.decode() for secret in kept_secrets(served.data)}
    secrets = {seeded, shop.password, made["keeper"]}
    assert current - secrets, "the rotation made none"
    secrets |= current
    assert any(b"ansible-playbook" in line for line in seen)
    assert not holds(said.encode(), secrets), "in the output"
    assert not [line for line in seen if holds(line, secrets)], "in the process list"
    assert not files_with(secrets, served.data, ansible.folder)
    assert not holds((served.folder / "log").read_bytes(), secrets), "in the log"


def test_a_rotation_that_cannot_log_in_fails_with_the_cure_and_the_secret_before_stays(
    ansible: Ansible, rotated: tuple[Served, dict[str, str]], shop: PostgresServer
) -> None:
    served, made = rotated
    url = {"url": f"unix://{served.data}/admin.sock"}
    shop.psql("ALTER ROLE keeper VALID UNTIL '2001-01-01'")
    task = {MODULE: {**url, "name": "app", "force": True, "wait": 1}}
    again = {MODULE: {**url, "name": "app", "max_age": "1d", "wait": 60}}
    (hasty, patient), said = ansible.tried([task, again], "-vvv")
    assert hasty["failed"] and "it goes on by itself" in hasty["msg"]
    # The one on its way is waited for, though the secret is young enough.
    assert patient["failed"] and "taken back" in patient["msg"]
    assert "the secret before stays in force" in patient["msg"]
    shop.psql("ALTER ROLE keeper VALID UNTIL 'infinity'")
    (latest,) = asked(served.data, "GET", "credentials/app/rotations")
    assert latest["outcome"] == "failed" and signs_in(served)
    assert kept_secrets(served.data) == {made["keeper"].encode()}
    assert made["keeper"] not in said and shop.password not in said
