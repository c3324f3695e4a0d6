# SPDX-License-Identifier: GPL-3.0-or-later
"""The clear form of a statement holds nothing that a client hid in it."""

from __future__ import annotations

import pytest

from gateway.policy.languages.sql.parse import analyse

S = "hunter2"
SHAPES = [
    f"select '{S}'",
    f"select E'{S}\\n'",
    f"select U&'{S}'",
    f"select $${S}$$",
    f"select ${S}$x${S}$",
    f"select 1 -- {S}",
    f"select /* /* {S} */ {S} */ 1",
    f"select 1 as {S}",
    f'select 1 as "{S}"',
    f"select * from t as {S}",
    f"with {S} as (select 1) select 1",
    f"insert into t values ('{S}')",
    f"update t set a = '{S}' where b = '{S}'",
    f"delete from t where a in ('{S}', '{S}')",
    f"prepare {S} as select '{S}'",
    f"prepare q as select '{S}'",
    f"execute {S}('{S}')",
    f"deallocate {S}",
    f"declare {S} cursor for select 1",
    f"fetch all from {S}",
    f"create role r password '{S}'",
    f"alter role r encrypted password '{S}'",
    f"create user {S} password '{S}'",
    f"create user mapping for u server s options (user 'x', password '{S}')",
    f"create server s foreign data wrapper f options (host '{S}', {S} 'x')",
    f"create subscription s connection 'password={S}' publication {S}",
    f"copy t from '/{S}'",
    f"copy t to program 'curl {S}'",
    f"copy t from stdin with (delimiter ',', null '{S}')",
    f"do $$ begin perform '{S}'; end $$",
    f"do language {S} '{S}'",
    f"notify {S}, '{S}'",
    f"listen {S}",
    f"set application_name = '{S}'",
    f"set {S}.x = {S}",
    f"set search_path = {S}",
    f"savepoint {S}",
    f"prepare transaction '{S}'",
    f"comment on table t is '{S}'",
    f"security label for {S} on table t is '{S}'",
    f"create function f() returns int language sql as 'select ''{S}'''",
    f"alter table t alter a set default '{S}'",
    f"alter table t add constraint {S} check (a <> '{S}')",
    f"create type x as enum ('{S}')",
    f"select x'68756e74657232', '{S}'::text, interval '{S}'",
    f"select 'äöü€😀', '{S}' -- ä{S}",
    f"select json '{{\"p\": \"{S}\"}}' ->> '{S}'",
    f"select xmlelement(name {S}, '{S}')",
    f"load '{S}'",
    f"explain analyze select '{S}'",
    f"call p({S} => '{S}')",
    f"alter database d set x = '{S}'",
]


@pytest.mark.parametrize("text", SHAPES)
def test_a_secret_is_not_in_the_clear(text):
    found = analyse(text)
    assert found.problem == ""
    assert S not in found.clear.lower()
    assert "68756e74657232" not in found.clear


def test_names_of_objects_stay_readable():
    found = analyse("update Shop.Orders set n = n + 1 where id = 7 and lower(who) = 'x'")
    assert found.clear == "UPDATE Shop . Orders SET n = n + ? WHERE id = ? AND lower ( who ) = ?"
    assert (
        found.shape
        == analyse("update Shop.Orders set n = n + 9 where id = 8 and lower(who) = 'y'").shape
    )
    assert analyse("selec 'hunter2'").clear == "unparsed (15 characters)"
