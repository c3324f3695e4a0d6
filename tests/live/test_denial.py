# SPDX-License-Identifier: GPL-3.0-or-later
"""A refusal in every way of asking: in the protocol's words, and the link goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.gateway_process import Gateway

pytestmark = pytest.mark.live


def connect(gateway: Gateway, **more: object) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(gateway.dsn("shop"), **more)  # type: ignore[arg-type]


def test_the_refusal_says_who_why_and_what_to_do(guarded: Gateway) -> None:
    with connect(guarded, autocommit=True) as link:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            link.execute("drop table customers")
        diagnostic = refused.value.diag
        said = diagnostic.message_primary
        assert said == "trailgate: denied by shop/no-schema-change: The schema changes elsewhere."
        detail = json.loads(diagnostic.message_detail or "")
        assert detail["trailgate"] == "denied"
        assert (detail["policy"], detail["rule"]) == ("shop", "no-schema-change")
        assert detail["session"] and detail["operation"]
        assert diagnostic.message_hint
        assert link.execute("select count(*) from customers").fetchone() == (2,)


@pytest.mark.parametrize("prepare", [False, True])
def test_extended_protocol_goes_on_after_a_refusal(guarded: Gateway, prepare: bool) -> None:
    with connect(guarded, autocommit=True) as link:
        for _ in range(3):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                link.execute("delete from customers where %s = 1 or true", (1,), prepare=prepare)
                link.execute("delete from customers", prepare=prepare)
            assert link.execute("select %s", (7,), prepare=prepare).fetchone() == (7,)


def test_a_refusal_in_a_transaction_fails_the_transaction(guarded: Gateway) -> None:
    with connect(guarded) as link:
        link.execute("insert into notes (body) values ('lost with its transaction')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            link.execute("truncate notes")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            link.execute("select 1")
        link.rollback()
        found = link.execute("select count(*) from notes where body like 'lost with%'")
        assert found.fetchone() == (0,)


def test_savepoints_survive_a_refusal(guarded: Gateway) -> None:
    with connect(guarded) as link:
        link.execute("insert into notes (body) values ('before the savepoint')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), link.transaction():
            link.execute("drop table notes")
        link.commit()
        found = link.execute("select count(*) from notes where body = 'before the savepoint'")
        assert found.fetchone() == (1,)


def test_nothing_of_a_refused_pipeline_commits(guarded: Gateway, shop: PostgresServer) -> None:
    with connect(guarded, autocommit=True) as link:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), link.pipeline():
            link.execute("insert into notes (body) values ('in a pipeline')")
            link.execute("drop table notes")
            link.execute("insert into notes (body) values ('in a pipeline')")
        assert link.execute("select 1").fetchone() == (1,)
    assert shop.psql("select count(*) from notes where body = 'in a pipeline'", "shop") == "0"


def test_one_refused_statement_refuses_the_whole_string(guarded: Gateway) -> None:
    with connect(guarded, autocommit=True) as link:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            link.execute("insert into notes (body) values ('of a string'); drop table notes")
        found = link.execute("select count(*) from notes where body = 'of a string'")
        assert found.fetchone() == (0,)


async def test_asyncpg_goes_on_after_a_refusal(guarded: Gateway) -> None:
    link = await asyncpg.connect(
        host="127.0.0.1", port=guarded.port, user="x", password=guarded.token, database="shop"
    )
    try:
        for _ in range(3):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await link.fetch("alter table notes add x int")
            assert await link.fetchval("select $1::int", 5) == 5
    finally:
        await link.close()


@pytest.mark.parametrize(
    "hidden",
    [
        "drop/**/table notes",
        "select 1; drop table notes",
        "do $$ begin drop table notes; end $$",
        "with gone as (delete from notes returning *) select * from gone",
        "explain analyze delete from notes",
        "prepare p as drop table notes",
        "create function f() returns void language sql as 'drop table notes'",
        "select 1 -- \n; truncate notes",
        'DROP TABLE "notes"',
        "copy notes from program 'true'",
        "set role postgres; drop table notes",
    ],
)
def test_what_hides_a_change_is_refused(
    guarded: Gateway, shop: PostgresServer, hidden: str
) -> None:
    before = shop.psql("select count(*) from notes", "shop")
    with connect(guarded, autocommit=True) as link:
        with pytest.raises(psycopg.Error) as refused:
            link.execute(hidden.encode())
        assert "trailgate: " in str(refused.value)
    assert shop.psql("select count(*) from notes", "shop") == before


def test_observed_operations_pass_and_are_marked(observed: Gateway) -> None:
    done = observed.psql(
        "create table observed_t (i int)", "drop table observed_t", database="shop"
    )
    assert done.returncode == 0 and not done.stderr


async def test_a_pool_that_resets_its_links_works_under_a_policy(guarded: Gateway) -> None:
    pool = await asyncpg.create_pool(
        host="127.0.0.1",
        port=guarded.port,
        user="x",
        password=guarded.token,
        database="shop",
        min_size=1,
        max_size=1,
    )
    async with pool:
        for number in range(3):
            async with pool.acquire() as link:
                assert await link.fetchval("select $1::int", number) == number


def test_try_shows_what_its_policy_would_refuse(shop: PostgresServer, tmp_path: Path) -> None:
    log = tmp_path / "shown"
    url = f"postgresql://postgres@127.0.0.1:{shop.port}/shop?sslmode=disable"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "gateway", "try", "--data", str(tmp_path / "data"), url],
            env={**os.environ, "PGPASSWORD": shop.password, "PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=out,
        )
    while "PGPASSFILE=" not in log.read_text():
        assert child.poll() is None, log.read_text()
        time.sleep(0.05)
    line = next(line for line in log.read_text().splitlines() if "PGPASSFILE=" in line)
    sql = "update customers set name = name; select 'a secret'"
    done = subprocess.run(["sh", "-c", f'{line} -c "{sql}"'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    child.terminate()
    assert child.wait(30) == 0
    shown = log.read_text()
    assert "would be denied: agent-sandbox/no-unfiltered-write" in shown
    assert "UPDATE customers" in shown
    assert "a secret" not in shown
