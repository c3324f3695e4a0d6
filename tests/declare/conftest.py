# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole gateway in this process, its issuer, and calls of its API by anybody."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.admin.api.serving import serve_api
from gateway.app import Gateway, running
from gateway.config import load_objects, load_settings
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.record.recipients import make_recipient

FILES = """recipient: auditor
key: {{from: "file:auditor/recipient.pub"}}
---
issuer: corp
url: {url}
audience: trailgate
algorithms: [ES256]
---
access: admins
groups: [admins]
may: [admin]
---
access: auditors
groups: [auditors]
may: [audit]
---
access: operators
groups: [operators]
may: [operate]
targets: [orders]
---
access: readers
groups: [readers]
may: [read_sessions]
targets: [orders]
"""
CREDENTIAL = {"user": "app", "login": "trust"}
TARGET = {
    "protocol": "postgresql",
    "address": "127.0.0.1:5432",
    "credentials": ["app"],
    "tls": {"mode": "disable"},
    "listen": "127.0.0.1:0",
}


@dataclass
class World:
    """A gateway at work. `admin` calls by its socket, `anybody` over TCP."""

    folder: Path
    issuer: EmbeddedIssuer
    gateway: Gateway
    admin: httpx.AsyncClient
    anybody: httpx.AsyncClient

    def token(self, subject: str, *groups: str) -> str:
        return self.issuer.sign(subject, claims={"name": subject, "groups": list(groups)})

    def bearer(self, subject: str, *groups: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(subject, *groups)}"}

    async def put(self, path: str, document: Any, **more: Any) -> httpx.Response:
        return await self.admin.put(f"/api/v1/{path}", json=document, **more)

    async def declared(self, path: str, document: Any) -> dict[str, Any]:
        answer = await self.put(path, document)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    async def get(self, path: str) -> Any:
        answer = await self.admin.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def names(self, kinds: str) -> list[str]:
        return [one["name"] for one in await self.get(kinds)]


@dataclass
class Place:
    """A folder with settings, in which gateways run one after the other."""

    folder: Path
    issuer: EmbeddedIssuer

    @asynccontextmanager
    async def running(self, *without: tuple[str, str]) -> AsyncIterator[World]:
        settings, _ = load_settings(self.folder / "trailgate.yaml")
        objects, _ = load_objects(settings.objects)
        async with AsyncExitStack() as stack:
            started = running(settings, objects, loopback_api=True, without=without)
            gateway = await stack.enter_async_context(started)
            transport = httpx.AsyncHTTPTransport(uds=str(settings.data / "admin.sock"))
            admin = httpx.AsyncClient(base_url="http://gateway", transport=transport, timeout=30)
            anybody = httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=30)
            yield World(
                self.folder,
                self.issuer,
                gateway,
                await stack.enter_async_context(admin),
                await stack.enter_async_context(anybody),
            )


@pytest.fixture
def folder() -> Iterator[Path]:
    # A short name: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tg-") as made:
        yield Path(made)


@pytest.fixture
async def place(folder: Path) -> AsyncIterator[Place]:
    make_recipient(folder / "auditor")
    (folder / "data").mkdir(mode=0o700)
    (folder / "policies").mkdir()
    issuer = EmbeddedIssuer()
    provider = await serve_api(issuer.app)
    issuer.url = f"http://127.0.0.1:{provider.port}"
    (folder / "objects.yaml").write_text(FILES.format(url=issuer.url))
    (folder / "trailgate.yaml").write_text(
        "data: data\nnode: gw1\nobjects: [objects.yaml]\npolicies: [policies]\n"
    )
    yield Place(folder, issuer)
    await provider.close()


@pytest.fixture
async def world(place: Place) -> AsyncIterator[World]:
    async with place.running() as at_work:
        yield at_work
