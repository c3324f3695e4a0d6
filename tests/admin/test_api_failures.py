# SPDX-License-Identifier: GPL-3.0-or-later
"""The API while its store is away, and towards a caller who sends too slowly."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.admin.api.app import build_api
from gateway.admin.api.services import Services
from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.grants import Grants
from gateway.identity.oidc import Issuers
from gateway.model import Grant, Identity
from gateway.store.grants import StoredGrants
from gateway.store.sqlite import SqliteDatabase

ALICE = Grant("g_1", Identity("corp", "alice"), root="g_1", expires_at=4e9)


class Known:
    """Lets everybody in as alice, so that what fails is what comes after the login."""

    async def login(self, token: str) -> Grant:
        return ALICE


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = await SqliteDatabase.open(tmp_path / "store.db")
    yield opened
    await opened.close()


def client(store: SqliteDatabase, known: bool) -> httpx.AsyncClient:
    async def ping() -> str | None:
        await store.ping()
        return None

    grants, issuers = Grants(StoredGrants(store)), Issuers([])
    login = Known() if known else TokenAuthenticator(issuers, grants)
    services = Services(login, grants, issuers, url="https://gw", ready={"store": ping})
    transport = httpx.ASGITransport(build_api(services), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="https://gw")


async def test_without_the_store_nobody_gets_in_and_nothing_is_given(store: SqliteDatabase) -> None:
    minted = await Grants(StoredGrants(store)).mint_root(Identity("corp", "alice"), (), 600)
    await store.close()
    async with client(store, known=False) as api:
        headers = {"authorization": f"Bearer {minted.token}"}
        answer = await api.get("/api/v1/self", headers=headers)
        assert answer.status_code == 503
        assert answer.json()["trailgate"] == "unavailable"
        answer = await api.post("/oauth/revoke", data={"token": minted.token})
        assert answer.status_code == 503  # not 200: it was not revoked
        assert minted.token not in answer.text
        ready = await api.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert str(store.path) not in ready.text


async def test_a_store_that_goes_away_within_a_call_is_said_in_each_routes_words(
    store: SqliteDatabase,
) -> None:
    with sqlite3.connect(store.path) as vandal:
        vandal.execute("ALTER TABLE grants RENAME TO gone")
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "agent_name": "reader",
    }
    async with client(store, known=True) as api:
        answer = await api.post("/oauth/token", data=form)
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
        answer = await api.get("/api/v1/grants", headers={"authorization": "Bearer x"})
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert str(store.path) not in answer.text


@pytest.mark.slow
def test_a_body_that_does_not_come_is_not_waited_for(api: Any) -> None:
    parts = urlsplit(api.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as link:
        link.sendall(
            b"POST /oauth/revoke HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"
            b"content-type: application/x-www-form-urlencoded\r\n\r\ntoken="
        )
        answer = link.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert asyncio.run(_answers(api.url))


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        return (await http.get("/healthz")).status_code == 200
