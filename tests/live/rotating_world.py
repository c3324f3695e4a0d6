# SPDX-License-Identifier: GPL-3.0-or-later
"""Served gateways whose credentials are rotated at a real server."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.test_serve import Served, written

PLANS = {
    "single": "{kind: postgresql, grace: 1s}",
    "admin": "{kind: postgresql, by: owner, grace: 1s}",
    "two": "{kind: postgresql, mode: two-user, users: [app_a, app_b], grace: 1s}",
    "two-admin": "{kind: postgresql, mode: two-user, users: [app_a, app_b], by: owner, grace: 1s}",
}


def accounts(server: PostgresServer) -> dict[str, str]:
    """Roles with seeded secrets, as they are before the first rotation."""
    made = {}
    for name in ("keeper", "app_a", "app_b"):
        made[name] = "seeded-" + secrets.token_hex(12)
        server.psql(f"DROP ROLE IF EXISTS {name}")
        server.psql(f"CREATE ROLE {name} LOGIN PASSWORD '{made[name]}' IN ROLE pg_read_all_data")
    return made


def rotating(folder: Path, server: PostgresServer, plan: str) -> tuple[int, int]:
    """As `written`; the credential `app` is rotated by a plan, `owner` is the superuser's."""
    ports = written(folder, server)
    objects = folder / "objects.yaml"
    text = objects.read_text().replace("user: postgres", "user: keeper")
    text = text.replace("{from: 'file:secret'}", f"{{from: vault}}\nrotation: {PLANS[plan]}")
    text += "---\ncredential: owner\nuser: postgres\nsecret: {from: 'file:secret'}\n"
    objects.write_text(text)
    policy = folder / "policies" / "shop.yaml"
    policy.write_text(policy.read_text().replace("kinds: [read]", "kinds: [read, write, session]"))
    return ports


def credentials(data: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "credentials", *words, "--data", str(data)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
    )


def shown(data: Path, *words: str, stdin: str = "") -> Any:
    done = credentials(data, *words, "-o", "json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asked(data: Path, method: str, path: str, body: object = None) -> Any:
    """A call on the admin socket: what the commands do, without a process for each."""
    transport = httpx.HTTPTransport(uds=str(data / "admin.sock"))
    with httpx.Client(base_url="http://gateway", transport=transport, timeout=30) as client:
        answer = client.request(method, f"/api/v1/{path}", json=body)
    assert answer.is_success, answer.text
    return answer.json()


def token_of(served: Served, *groups: str) -> str:
    body = {"subject": "tester", "groups": list(groups)}
    return str(asked(served.data, "POST", "token", body)["token"])


def seed(served: Served, made: dict[str, str], plan: str) -> None:
    """The first secrets, as an operator sets them."""
    two = plan.startswith("two")
    body = {"secret": made["app_a" if two else "keeper"]}
    asked(served.data, "PUT", "credentials/app/secret", body)
