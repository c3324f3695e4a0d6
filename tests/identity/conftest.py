# SPDX-License-Identifier: GPL-3.0-or-later
"""A real issuer on loopback, a real store, and a clock that tests can turn."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.admin.api.serving import serve_api
from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants
from gateway.identity.jwks import Pace
from gateway.identity.oidc import Issuer, Issuers
from gateway.store.grants import StoredGrants
from gateway.store.sqlite import SqliteDatabase


class Clock:
    """Seconds since the epoch, as far as the code under test knows."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def provider() -> AsyncIterator[EmbeddedIssuer]:
    issuer = EmbeddedIssuer()
    serving = await serve_api(issuer.app)
    issuer.url = f"http://127.0.0.1:{serving.port}"
    yield issuer
    await serving.close()


@pytest.fixture
async def issuers(provider: EmbeddedIssuer, clock: Clock) -> AsyncIterator[Issuers]:
    issuer = Issuer("corp", provider.url, "trailgate")
    verifying = Issuers([issuer], pace=Pace(between_fetches=0.0), now=clock)
    yield verifying
    await verifying.close()


@pytest.fixture
async def grants(tmp_path: Path, clock: Clock) -> AsyncIterator[Grants]:
    store = await SqliteDatabase.open(tmp_path / "store.db")
    keeping = Grants(StoredGrants(store), now=clock)
    await keeping.start()
    yield keeping
    await store.close()


@pytest.fixture
def authenticator(issuers: Issuers, grants: Grants) -> TokenAuthenticator:
    return TokenAuthenticator(issuers, grants)
