# SPDX-License-Identifier: GPL-3.0-or-later
"""A parser in its child, and policies made of texts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer
from gateway.model import Grant, Identity, Operation, Session, Target
from gateway.policy.documents import PolicySet, parse
from gateway.proxy.analyst import Analyst
from gateway.proxy.decider import DeciderPolicy, SessionDecider

SOMEBODY = Grant("g", Identity("i", "alice"), ("agents",))


@pytest.fixture
async def analyst() -> AsyncIterator[Analyst]:
    analyst = Analyst()
    yield analyst
    await analyst.close()


@pytest.fixture
def session(analyst: Analyst) -> Callable[..., SessionDecider]:
    """Makes a session's policy of documents (each a text)."""

    def made(
        *texts: str, grant: Grant = SOMEBODY, clock: Callable[[], float] = lambda: 1e9, parser=None
    ):
        documents = tuple(parse(text, f"{i}.yaml") for i, text in enumerate(texts))
        where = Session("s", 1, grant, Target("shop", "postgresql", "h", 1), "app", "shop", "c")
        return DeciderPolicy(PolicySet(documents), parser or analyst, clock).for_session(where)

    return made


@pytest.fixture
def verdict(session):
    """Decides one text under documents: the verdict's word."""

    async def of(document, text, *settings, facts=lambda name: None, **how):
        policy = document if isinstance(document, SessionDecider) else session(document, **how)
        return (await policy.decide(asked(text, *settings), facts)).verdict.value

    return of


def asked(text: str | None, *settings: tuple[str, str]) -> Operation:
    return Operation(1, "query", "sql", text, 0, 1, settings)


@pytest.fixture(name="asked")
def _asked():
    return asked


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A real server of the run's own."""
    try:
        server = PostgresServer(tls=True)  # the wheel's is built without XML
    except NoServer as missing:
        pytest.skip(str(missing))
    with server:
        yield server
