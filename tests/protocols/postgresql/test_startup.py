# SPDX-License-Identifier: GPL-3.0-or-later
"""Start-up parameters: what drivers send passes, what would run with our credential does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.postgresql.startup import (
    StartupRefused,
    named_session,
    parse_options,
    parse_startup,
    shown_application_name,
    split_options,
)


def started(**parameters: str):
    named = {"user": "app", **parameters}
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in named.items()) + b"\0"
    return parse_startup(196608, body)


def refused(**parameters: str) -> StartupRefused:
    with pytest.raises(StartupRefused) as caught:
        started(**parameters)
    return caught.value


@pytest.mark.parametrize(
    "parameters",
    [
        {"client_encoding": "'utf-8'"},  # asyncpg
        {"client_encoding": "UTF8", "DateStyle": "ISO", "TimeZone": "Europe/Berlin"},  # JDBC
        {"extra_float_digits": "2", "datestyle": "ISO, MDY"},  # JDBC, lib/pq
        {"statement_timeout": "5000", "lock_timeout": "1s"},  # node-postgres
        {"idle_in_transaction_session_timeout": "10000"},
        {"jit": "off", "work_mem": "invalid", "client_min_messages": "notice"},
        {"search_path": "a, b", "default_transaction_read_only": "on"},
        {"default_transaction_isolation": "serializable", "bytea_output": "escape"},
        {"enable_seqscan": "off", "standard_conforming_strings": "on", "IntervalStyle": "iso_8601"},
        {"geqo": "off"},  # PGGEQO
    ],
)
def test_what_drivers_send_reaches_the_target(parameters: dict[str, str]) -> None:
    expected = {name.lower(): value for name, value in parameters.items()}
    assert dict(started(**parameters).settings) == expected


@pytest.mark.parametrize(
    "name",
    [
        "local_preload_libraries",
        "session_preload_libraries",
        "shared_preload_libraries",
        "dynamic_library_path",
        "session_replication_role",
        "log_statement",
        "lo_compat_privileges",
        "allow_system_table_mods",
        "zero_damaged_pages",
        "backslash_quote",
        "jit_provider",
        "default_table_access_method",
        "app.user_id",
        "unheard_of",
        "enable_",
        "USER",
    ],
)
def test_what_is_not_on_the_list_is_refused_by_name(name: str) -> None:
    for spelling in (name, name.upper()):
        error = refused(**{spelling: "x"})
        assert error.sqlstate == "42501"
        assert name.lower() in error.message
        inside = refused(options=f"-c {spelling}=x")
        assert (inside.sqlstate, inside.message) == (error.sqlstate, error.message)


@pytest.mark.parametrize("name", ["role", "session_authorization", "Role"])
def test_another_role_is_asked_for_by_set_after_login(name: str) -> None:
    error = refused(**{name: "postgres"})
    assert error.sqlstate == "42501"
    assert "SET" in error.hint


def test_strings_that_read_backslashes_are_refused() -> None:
    assert refused(standard_conforming_strings="off").sqlstate == "42501"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-c geqo=off -c TimeZone=UTC", [("geqo", "off"), ("TimeZone", "UTC")]),
        ("-cgeqo=off --work-mem=1MB", [("geqo", "off"), ("work_mem", "1MB")]),
        (r"-c search_path=a,\ b", [("search_path", "a, b")]),
        ("-c a=b=c", [("a", "b=c")]),
        ("  ", []),
        ("-c geqo=", [("geqo", "")]),
    ],
)
def test_options_are_read_as_the_server_reads_them(text: str, found: list[tuple[str, str]]) -> None:
    assert parse_options(text) == found


@pytest.mark.parametrize("text", ["-d 5", "geqo=off", "-c", "-c geqo", "--", "-c =x", "-", "--x"])
def test_other_switches_are_refused(text: str) -> None:
    with pytest.raises(StartupRefused) as caught:
        parse_options(text)
    assert caught.value.sqlstate == "22023"


def test_a_parameter_of_its_own_wins_over_options() -> None:
    assert started(geqo="on", options="-c geqo=off").settings == (("geqo", "on"),)


def test_our_own_settings_are_taken_and_not_passed_on() -> None:
    startup = started(options="-c trailgate.wait=30s -c geqo=off", application_name="x")
    assert startup.settings == (("geqo", "off"),)
    assert startup.labels == (("application_name", "x"), ("wait", "30s"))


@pytest.mark.parametrize(
    ("setting", "state"),
    [("trailgate.wait=soon", "22023"), ("trailgate.other=1", "42704")],
)
def test_a_wrong_setting_of_ours_is_named(setting: str, state: str) -> None:
    assert refused(options=f"-c {setting}").sqlstate == state


def test_the_session_id_stands_first_in_63_bytes() -> None:
    name = named_session("s" * 26, "name " * 20)
    assert name.startswith("s" * 26 + " name name")
    assert len(name) == 63
    assert named_session("s" * 26, "") == "s" * 26


def test_a_name_is_shown_as_the_server_would_keep_it() -> None:
    assert shown_application_name("caf\u00e9\n" + "x" * 100) == "caf???" + "x" * 57


@given(st.text())
def test_any_options_are_read_or_refused_mutated(text: str) -> None:
    assert all(split_options(text)) or "\\" in text
    try:
        parse_options(text)
    except StartupRefused as error:
        assert "\n" not in error.message


@given(st.binary(max_size=200))
def test_any_packet_is_read_or_refused_mutated(body: bytes) -> None:
    try:
        assert parse_startup(196608, body).user
    except StartupRefused as error:
        assert len(error.sqlstate) == 5
