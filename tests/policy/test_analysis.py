# SPDX-License-Identifier: GPL-3.0-or-later
"""What the analysis finds in statements of every sort, as a table."""

from __future__ import annotations

import pytest

from gateway.policy.languages.sql.parse import analyse

# text: units as "kind reads>writes functions"; `-` stands for none.
TABLE = [
    ("select 1", ["select - - -"]),
    ("select a, lower(b) from s.t, u", ["select s.t,u - lower"]),
    ("table t", ["select t - -"]),
    ('select * from "T" union select * from "a.b"', ["select T,a.b - -"]),
    ('select U&"d\\0061ta" from U&"\\0073ecret"', ["select secret - -"]),
    ("/* x */ SeLeCt/**/1 -- from y\n from t", ["select t - -"]),
    ("with t as (select * from t) select * from t", ["select t - -"]),
    ("with recursive t as (select * from t) select * from t", ["select - - -"]),
    ("with t as (select 1), u as (select * from t) select * from u, s.t", ["select s.t - -"]),
    (
        "with x as (delete from a where i = 1 returning *) select * from x",
        ["select - - -", "delete a a -"],
    ),
    ("select * from t where exists (select f(x) from u)", ["select t,u - f"]),
    ("select * from f(1), lateral g(2)", ["select - - f,g"]),
    ("select a operator(public.+) b from t", ["select t - public.+"]),
    ("select a operator(pg_catalog.+) b from t", ["select t - -"]),
    ("select a <+> b from t where c between 1 and 2", ["select t - <+>"]),
    ("select a in (1), a like 'x', a is distinct from b, a >= all (array[1])", ["select - - -"]),
    ("select a from t order by a using operator(x.<)", ["select t - x.<"]),
    ("select * into n from t", ["create t n -"]),
    ("select * from t a, u b for update of a", ["select t,u - -", "lock t,u - -"]),
    ("insert into s.t values (1)", ["insert - s.t -"]),
    ("insert into t select * from u returning *", ["insert t,u t -"]),
    (
        "insert into t values (1) on conflict (i) do update set i = 2",
        ["insert t t -", "update - t -"],
    ),
    ("insert into t values (1) on conflict do nothing", ["insert - t -"]),
    ("update t set a = f() from u where t.i = u.i", ["update t,u t f"]),
    ("delete from t using u", ["delete t,u t -"]),
    (
        "merge into t using u on t.i = u.i when matched then delete "
        "when not matched then insert values (1)",
        ["merge t,u t -", "delete - t -", "insert - t -"],
    ),
    ("truncate a, s.b", ["truncate - a,s.b -"]),
    ("copy t to stdout", ["copy_to t - -"]),
    ("copy (select * from t) to stdout", ["copy_to t - -"]),
    ("copy (delete from t returning *) to stdout", ["copy_to - - -", "delete t t -"]),
    ("copy t from stdin", ["copy_from - t -"]),
    ("copy t from program 'x'", ["copy_program - t -"]),
    ("copy t to '/x'", ["copy_file t - -"]),
    ("explain analyze delete from t where i = 1", ["explain - - -", "delete t t -"]),
    ("explain (analyze) create table n as select * from t", ["explain - - -", "create t n -"]),
    ("prepare q as update t set i = 1", ["prepare - - -", "update t t -"]),
    ("create table n as execute q", ["create - n -", "execute - - -"]),
    ("explain execute q(f())", ["explain - - -", "execute - - f"]),
    ("declare c cursor for select * from t", ["declare - - -", "select t - -"]),
    ("fetch all from c", ["fetch - - -"]),
    ("call s.p(f())", ["call - - f,s.p"]),
    ("do $$ begin delete from t; end $$", ["do - - -"]),
    ("lock table t", ["lock t - -"]),
    ("notify c, 'x'", ["notify - - -"]),
    ("listen c", ["listen - - -"]),
    ("set role x", ["set_role - - -"]),
    ('set "ROLE" to x', ["set_role - - -"]),
    ("reset role", ["set_role - - -"]),
    ("set session authorization x", ["set_role - - -"]),
    ("set search_path = x", ["set - - -"]),
    (
        "update pg_settings set setting = 'x'",
        ["update pg_settings pg_settings pg_catalog.set_config"],
    ),
    ("commit prepared 'x'", ["two_phase - pg_catalog.? -"]),
    ("vacuum", ["vacuum - ?.? -"]),
    ("vacuum full s.t", ["vacuum - s.t -"]),
    ("analyze s.t", ["analyze - s.t -"]),
    ("reindex schema s", ["reindex - s.? -"]),
    ("reindex table s.t", ["reindex - s.t -"]),
    ("refresh materialized view s.m", ["refresh - s.m -"]),
    ("create view v as select * from t", ["create t v -"]),
    ("create table n (like t, x int default f())", ["create t n f"]),
    ("create index on s.t (f(x))", ["create - s.t f"]),
    ("create policy p on s.t using (f())", ["create - s.t f"]),
    ("create trigger r before insert on s.t execute function f()", ["create - s.t -"]),
    ("create function s.f() returns int language sql as 'x'", ["create - s.f -"]),
    ("create type s.t as enum ('x')", ["create - s.t -"]),
    ("create schema s create table t ()", ["create - s.? -", "create - t -"]),
    ("create rule r as on insert to t do instead delete from u", ["create - t -", "delete u u -"]),
    ("create cast (int as text) with function f(int)", ["create - ?.? -"]),
    ("create role x password 'y'", ["create_role - pg_catalog.? -"]),
    ("alter role x password 'y'", ["alter_role - pg_catalog.? -"]),
    ("alter system set x = 1", ["alter_system - pg_catalog.? -"]),
    ("alter table s.t rename to u", ["alter - s.t -"]),
    ("alter schema s rename to u", ["alter - ?.? -"]),
    ("alter function s.f() owner to x", ["alter - s.f -"]),
    ("drop table s.t, u", ["drop - s.t,u -"]),
    ("drop schema s cascade", ["drop - s.? -"]),
    ("drop function s.f(int)", ["drop - s.f -"]),
    ("drop trigger r on s.t", ["drop - s.t -"]),
    ("grant select on s.t to x", ["grant - s.t -"]),
    ("grant select on all tables in schema s to x", ["grant - s.? -"]),
    ("grant r to x", ["grant - pg_catalog.? -"]),
    ("revoke usage on schema s from x", ["grant - s.? -"]),
    ("comment on column s.t.c is 'x'", ["comment - s.t -"]),
    ("comment on database d is 'x'", ["comment - pg_catalog.? -"]),
    ("security label for x on table s.t is 'y'", ["security_label - s.t -"]),
    ("import foreign schema x from server y into s", ["import - s.? -"]),
    ("select 1; drop table t; begin", ["select - - -", "drop - t -", "transaction - - -"]),
    ("", []),
]

FLAGS = [
    ("delete from t", "unfiltered_write"),
    ("delete from t where 1 = 1", "unfiltered_write"),
    ("update t set a = 1 where true", "unfiltered_write"),
    ("truncate t", "unfiltered_write"),
    ("delete from t where a = 1", ""),
    ("delete from t where current of c", ""),
    ("merge into t using u on true when matched then delete", "unfiltered_write"),
    ("select * from t", "no_limit"),
    ("select * from t limit all", "no_limit"),
    ("select * from t limit null", "no_limit"),
    ("copy t to stdout", "no_limit"),
    ("copy (select * from t limit 3) to stdout", ""),
    ("select * from t limit 3", ""),
    ("select 1", ""),
    ("do 'x'", "do_block dynamic"),
    ("call p()", "dynamic"),
    ("create function f() returns int language sql as 'x'", "dynamic"),
    ("select query_to_xml('x', true, true, '')", "dynamic"),
    ("copy t from program 'x'", "copy_program"),
]


def told(names):
    return ",".join(sorted(str(name) for name in names)) or "-"


@pytest.mark.parametrize(("text", "units"), TABLE, ids=[text[:60] for text, _ in TABLE])
def test_every_statement_is_what_it_is(text, units):
    found = analyse(text)
    assert found.problem == ""
    assert [
        f"{u.kind} {told(u.reads)} {told(u.writes)} {told(u.functions)}" for u in found.units
    ] == units


@pytest.mark.parametrize(("text", "flags"), FLAGS)
def test_what_hides_work_is_flagged(text, flags):
    (unit, *_) = analyse(text).units
    assert unit.flags == frozenset(flags.split())


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("begin", True),
        ("prepare transaction 'x'", False),
        ("set client_encoding = 'UTF8'", True),
        ("set client_encoding = 'SJIS'", False),
        ("set standard_conforming_strings = off", False),
        ("set row_security = off", True),
        ("set row_security = on", False),
        ("set session_replication_role = replica", False),
        ("set auto_explain.log_level = x", False),
        ('set "Role" = x', False),
        ("reset all", True),
        ("discard all", True),
        ("notify c", False),
        ("lock table t", False),
    ],
)
def test_only_harmless_session_statements_are_free(text, harmless):
    (unit,) = analyse(text).units
    assert unit.harmless is harmless


@pytest.mark.parametrize(
    ("text", "declares"),
    [
        ("prepare q(int) as delete from t -- as x", [("prepare", "q", "delete from t -- as x")]),
        ('declare "for" cursor for select 1', [("cursor", "for", "select 1")]),
        ("set search_path = 'a, b', \"$user\"", [("setting", "search_path", '"a, b", "$user"')]),
        ("set local search_path = x", [("local", "search_path", '"x"')]),
        ("set search_path = ''", [("setting", "search_path", "pg_catalog")]),
        ("reset search_path", [("reset", "search_path", "")]),
        ("select set_config('search_path', 'a, b', false)", [("setting", "search_path", "a, b")]),
        ("select set_config('search_path', 'x', true)", [("local", "search_path", "x")]),
        ("select set_config('application_name', 'x', false)", []),
    ],
)
def test_what_a_statement_does_to_its_session_is_declared(text, declares):
    assert list(analyse(text).declares) == declares


@pytest.mark.parametrize(
    "text",
    [
        "do 'x'",
        "call p()",
        "select set_config('role' || '', 'x', false)",
        "update pg_settings set setting = 'x'",
    ],
)
def test_code_that_may_set_anything_leaves_nothing_known(text):
    assert ("setting", "search_path", "") in analyse(text).declares
