# SPDX-License-Identifier: GPL-3.0-or-later
"""A real API process without a proxy, its OpenID issuer, and the commands as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BARE = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH")


@dataclass
class Api:
    """A gateway's API at work."""

    url: str
    issuer: str
    issuer_secret: str
    data: Path
    log: Path

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, trust_env=False)
        transport = httpx.HTTPTransport(uds=str(self.data / "admin.sock"))
        self.admin = httpx.Client(base_url="http://gateway", transport=transport)

    def sign(self, subject: str, **more: Any) -> str:
        """A token of the issuer; `lifetime`, `audience`, `claims`."""
        asked = {"subject": subject, **more}
        answer = httpx.post(
            f"{self.issuer}/admin/tokens",
            json=asked,
            headers={"authorization": f"Bearer {self.issuer_secret}"},
            trust_env=False,
        )
        return str(answer.json()["token"])

    def form(self, parent: str, **more: str) -> dict[str, str]:
        return {
            "grant_type": EXCHANGE,
            "subject_token": parent,
            "subject_token_type": ACCESS_TOKEN,
            "agent_name": "reader",
            **more,
        }

    def exchange(self, parent: str, **more: str) -> dict[str, Any]:
        answer = self.http.post("/oauth/token", data=self.form(parent, **more))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def get(self, path: str, token: str) -> httpx.Response:
        return self.http.get(path, headers=bearer(token))

    def active(self, token: str) -> bool:
        """Whether the token is in force, as the admin is told."""
        return bool(self.admin.post("/oauth/introspect", data={"token": token}).json()["active"])

    def environment(self, **more: str) -> dict[str, str]:
        """A bare environment that names this gateway."""
        kept = {name: os.environ[name] for name in BARE if name in os.environ}
        return {**kept, "TRAILGATE_URL": self.url, **more}

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command to its end; keywords are added to its environment."""
        return subprocess.run(
            command(*words),
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=60,
        )


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "gateway", *words]


@contextmanager
def serving(longest_lease: float) -> Iterator[Api]:
    # A short name: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tg-") as folder, open(f"{folder}/log", "wb") as log:
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        program = [sys.executable, str(Path(__file__).with_name("gateway_process.py"))]
        process = subprocess.Popen(
            [*program, str(data), str(longest_lease)], stdout=subprocess.PIPE, stderr=log
        )
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield Api(ready["url"], ready["issuer"], ready["secret"], data, Path(folder) / "log")
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(longest_lease=3600.0) as running:
        yield running


@pytest.fixture(scope="module")
def brief() -> Iterator[Api]:
    """One that gives no lease longer than three seconds."""
    with serving(longest_lease=3.0) as running:
        yield running
