# SPDX-License-Identifier: GPL-3.0-or-later
"""Against a real server: what really changed something was not classed as a read."""

from __future__ import annotations

import psycopg
import pytest

from gateway.policy.documents import Selector
from gateway.policy.languages.sql.parse import analyse
from gateway.policy.matching import SAFE_FUNCTIONS, scope_of, uncovered

pytestmark = pytest.mark.live

SETUP = """
drop schema if exists public cascade; drop schema if exists other cascade;
create schema public; create schema other;
create table t (i int primary key, s text default 'x'); insert into t select generate_series(1, 9);
create table u (i int, n text); insert into u values (1, 'a'), (2, 'b');
create table other.t (i int); insert into other.t values (1);
create sequence q; create view v as select * from t where i < 5;
create materialized view m as select count(*) from t;
create function f() returns int language sql as 'insert into u values (99); select 1';
create procedure p() language plpgsql as 'begin delete from u; end';
create function public.plus(int, int) returns int language sql
    as 'insert into u values (98); select 1';
create operator public.<+> (leftarg = int, rightarg = int, function = public.plus);
"""
STATEMENTS = [
    "select * from t",
    "table v",
    "select count(*), max(s) from t join u using (i) group by u.n",
    "with a as (select * from t) select * from a where i in (select i from u)",
    "explain select * from t",
    "explain analyze select * from t",
    "copy t to stdout",
    "values (1), (2)",
    "show search_path",
    "select relname from pg_class limit 3",
    "select 'delete from t' /* ; drop table t */ -- x",
    "insert into t values (50)",
    "insert into t values (1) on conflict (i) do update set s = 'y'",
    "insert into t values (1) on conflict do nothing",
    "update t set s = 'z' where i = 2",
    "delete from v where i = 3",
    "merge into t using u on t.i = u.i when matched then delete",
    "with d as (delete from t where i = 4 returning *) select * from d",
    "with d as (select 1) insert into u select 1 from d",
    "explain analyze delete from t where i = 5",
    "explain (analyze, costs off) update t set s = 'w'",
    "copy (delete from t where i = 6 returning *) to stdout",
    "prepare z as delete from t where i = 7; execute z; deallocate z",
    "select * into n from t",
    "create table n as select * from t",
    "create temp table n as select * from t",
    "explain analyze create table n as select * from t",
    "truncate u",
    "drop table u",
    "drop schema other cascade",
    "alter table t add column c int",
    "alter table t rename to tt",
    "comment on table t is 'x'",
    "create index on t (s)",
    "create view w as select 1",
    "refresh materialized view m",
    "grant select on t to public",
    "select nextval('q')",
    "select setval('q', 9)",
    "select f()",
    "select public.f() from t",
    "call p()",
    "do $$ begin delete from t; end $$",
    "select 1 operator(public.<+>) 2",
    "select 1 <+> 2",
    "select i from t order by i, 1 <+> 2",
    "select lo_create(0)",
    "select lo_from_bytea(0, 'x')",
    "select * from t for update",
    "select i from t where i = 1 for key share",
    "lock table t in access share mode",
    "delete from t where i = (select max(i) from t)",
    "update only t set s = u.n from u where t.i = u.i",
    'DELETE FROM U&"\\0074" WHERE i = 8',
    'delete from "public"."t" where i = 9',
    "create function g() returns int language sql as 'select 1'",
    "create type y as enum ('a')",
    "alter sequence q restart with 5",
    "analyze t",
]
STATE = """
select 'table', c.oid::regclass::text,
    query_to_xml('select * from ' || c.oid::regclass, true, true, '')::text
from pg_class c where relkind in ('r', 'm') and relnamespace::regnamespace::text not in
    ('pg_catalog', 'information_schema', 'pg_toast')
union all select 'sequence', 'q', last_value::text || is_called from q
union all select 'objects', c.oid::text, row(relname, relkind, relacl, relnatts, relhasindex)::text
from pg_class c where relnamespace::regnamespace::text not like 'pg_%'
union all select 'functions', oid::text, proname from pg_proc
    where pronamespace = 'public'::regnamespace
union all select 'types', oid::text, typname from pg_type
    where typnamespace = 'public'::regnamespace
union all select 'comments', objoid::text, description from pg_description
    where objoid = 't'::regclass
union all select 'large', oid::text, '' from pg_largeobject_metadata
union all select 'locks', relation::text, mode from pg_locks where pid = pg_backend_pid()
    and mode not in ('AccessShareLock') and relation >= 16384
union all select 'statistics', starelid::text, staattnum::text from pg_statistic
    where starelid = 't'::regclass
"""
READ = Selector(kinds=("read", "session"))


def state(connection):
    try:
        return sorted(map(tuple, connection.execute(STATE).fetchall()))
    except psycopg.errors.UndefinedTable:  # t itself is gone
        return []


def run(connection, text):
    with connection.cursor() as cursor:
        if text.startswith("copy"):
            with cursor.copy(text) as copy:
                for _ in copy:
                    pass
        else:
            cursor.execute(text)


@pytest.mark.parametrize("text", STATEMENTS)
def test_what_changed_something_is_not_a_read(postgresql, text):
    units = analyse(text).units
    scope = scope_of(None, "postgres")
    own = [unit for unit in units if unit.kind != "lock"]
    free = len(own) == len(units) and all(uncovered(unit, [READ], scope) is None for unit in own)
    with psycopg.connect(postgresql.url("postgres")) as connection:
        connection.execute(SETUP)
        connection.commit()
        before = state(connection)
        connection.rollback()
        run(connection, text)
        after = state(connection)
        connection.rollback()
    changed = before != after
    assert not (free and changed), "allowed as a read, and it changed something"
    if text in STATEMENTS[: STATEMENTS.index("insert into t values (50)")]:
        assert free and not changed


def test_every_safe_function_that_is_built_in_is_stable_or_named_here(postgresql):
    known = {
        *("clock_timestamp", "timeofday", "random", "gen_random_uuid", "currval", "lastval"),
        *("pg_database_size", "pg_indexes_size", "pg_relation_size", "pg_table_size"),
        *("pg_total_relation_size", "pg_tablespace_size", "pg_is_in_recovery", "current_query"),
        *("pg_partition_ancestors", "pg_partition_tree", "pg_collation_actual_version"),
        *("pg_database_collation_actual_version", "pg_advisory_unlock_all"),
    }
    with psycopg.connect(postgresql.url("postgres")) as connection:
        volatile = connection.execute(
            "select distinct proname from pg_proc where provolatile = 'v' "
            "and pronamespace = 'pg_catalog'::regnamespace"
        ).fetchall()
    assert {name for (name,) in volatile} & SAFE_FUNCTIONS <= known


SECRETS = """select 'x' from pg_catalog.pg_authid
select usename from pg_stat_activity
select pg_read_file('postgresql.conf')"""


@pytest.mark.parametrize("text", SECRETS.splitlines())
def test_what_reads_secrets_needs_a_rule_of_its_own(postgresql, text):
    with psycopg.connect(postgresql.url("postgres")) as connection:
        assert connection.execute(text).fetchall()  # the server gives it
    read = Selector(kinds=("read",), reads=("public.*",))
    assert any(uncovered(u, [read], scope_of(None, "x")) is not None for u in analyse(text).units)
