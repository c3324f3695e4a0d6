# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's side of a login: negotiation, start-up packet, token, refusals, welcome."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import Grant, Identity, Refusal, Session, Target
from gateway.protocols import Cancel, Close, Present, Ready, StartTls, ToClient, WireError
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.greeter import TOKEN_LIMIT, PostgresGreeter
from tests.examples import examples

TLS_HELLO = b"\x16\x03\x01\x00\xa5\x01"
SSL = struct.pack("!II", 8, wire.SSL_REQUEST)
GSS = struct.pack("!II", 8, wire.GSSENC_REQUEST)


def packet(version: int = 196608, **parameters: str) -> bytes:
    named = {"user": "app", "database": "orders", **parameters}
    return wire.startup_message(named.items(), version)


def password(token: str = "token-1") -> bytes:
    return wire.password_message(token.encode() + b"\0")


def plain() -> PostgresGreeter:
    return PostgresGreeter(plain=True, loopback=True)


def fields(effects: list) -> dict[str, str]:
    """The error that the client reads; it must be the last message, and the link must close."""
    assert isinstance(effects[-1], Close)
    data = effects[-2].data
    assert data[0] == ord("E")
    found = wire.read_fields(data, 5, len(data))
    assert found["S"] == found["V"] == "FATAL"
    return found


def session(**labels: str) -> Session:
    return Session(
        "s" * 26,
        0,
        Grant("g", Identity("i", "alice")),
        Target("orders", "postgresql", "127.0.0.1", 5432),
        "app",
        "orders",
        "127.0.0.1:1",
        labels,
    )


def test_a_client_in_the_clear_presents_its_token_on_a_loopback_listener() -> None:
    greeter = plain()
    assert greeter.receive(packet(TimeZone="UTC", application_name="psql")) == [
        ToClient(wire.authentication_cleartext_password(), own=True)
    ]
    assert greeter.receive(password()) == [
        Present("token-1", "app", "orders", (("timezone", "UTC"),), (("application_name", "psql"),))
    ]


def test_the_database_is_the_user_where_none_is_named() -> None:
    effects = plain().receive(wire.startup_message([("user", "app")]) + password())
    assert effects[-1] == Present("token-1", "app", "app")


def test_ssl_request_is_answered_before_tls_begins() -> None:
    greeter = PostgresGreeter(plain=False, loopback=False)
    assert greeter.receive(SSL) == [ToClient(b"S", own=True), StartTls()]
    assert greeter.tls_started(None) == []
    assert isinstance(greeter.receive(packet())[0], ToClient)
    assert isinstance(greeter.receive(password())[0], Present)


def test_bytes_behind_ssl_request_cut_the_link() -> None:
    effects = plain().receive(SSL + packet())
    assert not any(isinstance(effect, StartTls) for effect in effects)
    assert fields(effects)["C"] == "08P01"


def test_bytes_while_tls_is_set_up_are_an_error() -> None:
    greeter = plain()
    greeter.receive(SSL)
    with pytest.raises(WireError):
        greeter.receive(packet())


def test_a_listener_without_a_certificate_says_n_and_goes_on() -> None:
    greeter = PostgresGreeter(plain=True, loopback=True, tls=False)
    assert greeter.receive(SSL) == [ToClient(b"N", own=True)]
    assert greeter.receive(packet())[0].data[0] == ord("R")


def test_direct_tls_starts_with_the_bytes_that_came() -> None:
    greeter = PostgresGreeter(plain=False, loopback=False)
    assert greeter.receive(TLS_HELLO) == [StartTls(TLS_HELLO, "postgresql")]
    assert greeter.tls_started("postgresql") == []
    assert greeter.receive(packet())[0].data[0] == ord("R")


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_direct_tls_without_the_right_alpn_is_closed_without_a_word(alpn: str | None) -> None:
    greeter = PostgresGreeter(plain=False, loopback=False)
    greeter.receive(TLS_HELLO)
    effects = greeter.tls_started(alpn)
    assert [type(effect) for effect in effects] == [Close]
    assert greeter.receive(packet()) == []


def test_direct_tls_on_a_listener_without_a_certificate_is_closed() -> None:
    effects = PostgresGreeter(plain=True, loopback=True, tls=False).receive(TLS_HELLO)
    assert [type(effect) for effect in effects] == [Close]


def test_gss_encryption_is_declined_and_the_link_goes_on_to_tls() -> None:
    greeter = PostgresGreeter(plain=False, loopback=False)
    assert greeter.receive(GSS) == [ToClient(b"N", own=True)]
    assert greeter.receive(SSL) == [ToClient(b"S", own=True), StartTls()]


def test_tls_asked_for_twice_is_an_unknown_version() -> None:
    greeter = PostgresGreeter(plain=True, loopback=True, tls=False)
    greeter.receive(SSL)
    assert fields(greeter.receive(SSL))["C"] == "0A000"


@pytest.mark.parametrize(("plain_", "loopback"), [(False, True), (True, False), (False, False)])
def test_no_tls_is_refused_before_any_password_is_asked(plain_: bool, loopback: bool) -> None:
    effects = PostgresGreeter(plain=plain_, loopback=loopback).receive(packet() + password())
    assert len(effects) == 2
    error = fields(effects)
    assert error["C"] == "28000"
    assert json.loads(error["D"])["trailgate"] == "denied"
    assert "sslmode" in error["H"]


@pytest.mark.parametrize("key", [b"abcd", b"k" * 32, b"k" * 256])
@pytest.mark.parametrize("loopback", [True, False])
def test_a_cancel_request_needs_no_tls(key: bytes, loopback: bool) -> None:
    greeter = PostgresGreeter(plain=False, loopback=loopback)
    assert greeter.receive(wire.cancel_request(4242, key)) == [Cancel(4242, key)]
    assert greeter.receive(b"more") == []


@pytest.mark.parametrize("key", [b"", b"abc", b"k" * 257])
def test_a_cancel_request_of_a_wrong_length_is_closed(key: bytes) -> None:
    effects = plain().receive(wire.cancel_request(4242, key))
    assert [type(effect) for effect in effects] == [Close]


def test_protocol_3_2_is_negotiated_down_before_authentication() -> None:
    effects = plain().receive(packet(wire.PROTOCOL_3_2))
    assert [effect.data[:1] for effect in effects] == [b"v", b"R"]
    assert effects[0].data[5:] == struct.pack("!II", 196608, 0)


def test_unknown_protocol_options_are_named_back() -> None:
    effects = plain().receive(packet(**{"_pq_.compression": "zstd"}))
    assert effects[0].data == wire.negotiate_protocol_version(196608, ["_pq_.compression"])


@pytest.mark.parametrize("version", [2 << 16, 4 << 16, 0])
def test_an_unknown_major_version_is_refused_in_the_servers_words(version: int) -> None:
    error = fields(plain().receive(packet(version)))
    assert error["C"] == "0A000"
    assert error["M"].startswith("unsupported frontend protocol")


@pytest.mark.parametrize("value", ["database", "true", "on", "1", "nonsense"])
def test_replication_is_refused(value: str) -> None:
    assert fields(plain().receive(packet(replication=value)))["C"] == "0A000"


def test_replication_off_is_an_ordinary_session() -> None:
    assert plain().receive(packet(replication="false"))[0].data[0] == ord("R")


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (struct.pack("!II", 9, 196608) + b"x", "08P01"),
        (struct.pack("!II", 13, 196608) + b"user\0", "08P01"),
        (struct.pack("!II", 9, 196608) + b"\0", "28000"),
        (struct.pack("!II", 8, 196608), "08P01"),
        (struct.pack("!II", 17, 196608) + b"user\0\xff\0\0\0", "22021"),
    ],
)
def test_a_malformed_start_up_packet_is_refused(data: bytes, state: str) -> None:
    assert fields(plain().receive(data))["C"] == state


@pytest.mark.parametrize(
    "data",
    [
        wire.TERMINATE_MESSAGE,
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!II", 7, 196608),
        struct.pack("!II", 10_001, 196608),
        struct.pack("!I", 2**31 - 1),
    ],
)
def test_a_length_that_no_start_up_packet_has_ends_the_link_without_a_word(data: bytes) -> None:
    greeter = plain()
    assert greeter.receive(data) == [Close("protocol", "invalid length of startup packet")]
    assert greeter.receive(packet()) == []


@pytest.mark.parametrize("message", [wire.message(wire.QUERY, b"select 1\0"), b"\0\0\0\0\0", SSL])
def test_another_message_in_the_place_of_the_token_is_refused(message: bytes) -> None:
    greeter = plain()
    greeter.receive(packet())
    assert fields(greeter.receive(message))["C"] == "08P01"


def test_a_client_that_leaves_without_a_token_is_closed_quietly() -> None:
    greeter = plain()
    greeter.receive(packet())
    assert [type(e) for e in greeter.receive(wire.TERMINATE_MESSAGE)] == [Close]


def test_an_empty_password_is_28p01() -> None:
    greeter = plain()
    greeter.receive(packet())
    assert fields(greeter.receive(password("")))["C"] == "28P01"


def test_the_longest_token_passes_and_one_byte_more_is_refused_by_its_header() -> None:
    greeter = plain()
    greeter.receive(packet())
    assert greeter.receive(password("t" * TOKEN_LIMIT))[0].token == "t" * TOKEN_LIMIT
    greeter = plain()
    greeter.receive(packet())
    assert fields(greeter.receive(password("t" * (TOKEN_LIMIT + 1))[:5]))["C"] == "08P01"


@pytest.mark.parametrize("body", [b"token", b"to\0ken\0", b"\0\0"])
def test_a_password_that_is_not_one_string_is_refused(body: bytes) -> None:
    greeter = plain()
    greeter.receive(packet())
    assert fields(greeter.receive(wire.password_message(body)))["C"] == "08P01"


def test_bytes_sent_ahead_are_kept_for_the_dialog_once() -> None:
    greeter = plain()
    effects = greeter.receive(packet() + password() + b"Q123")
    assert isinstance(effects[-1], Present)
    greeter.receive(b"45")
    assert greeter.leftover() == b"Q12345"
    assert greeter.leftover() == b""


def test_too_many_bytes_sent_ahead_are_refused() -> None:
    greeter = plain()
    greeter.receive(packet() + password())
    assert fields(greeter.receive(bytes(70_000)))["C"] == "08P01"


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("bad_token", "28P01"),
        ("expired", "28P01"),
        ("revoked", "28P01"),
        ("wrong_user", "28000"),
        ("unknown_target", "3D000"),
        ("capacity", "53300"),
        ("drain", "57P01"),
        ("target", "08006"),
        ("record", "58030"),
        ("denied", "42501"),
        ("not_supported", "0A000"),
    ],
)
def test_a_refusal_has_its_sqlstate_and_the_object(code: str, state: str) -> None:
    greeter = plain()
    greeter.receive(packet() + password())
    effects = greeter.refused(Refusal("denied", code, "because", session="s1", hint="do that"))
    error = fields(effects)
    assert error["C"] == state
    assert error["M"].startswith("trailgate: ")
    assert error["H"] == "do that"
    told = json.loads(error["D"])
    assert (told["trailgate"], told["reason"], told["session"]) == ("denied", "because", "s1")
    assert greeter.receive(b"x") == []


def test_the_welcome_hides_the_targets_key_and_shows_the_clients_own_name() -> None:
    greeter = plain()
    greeter.receive(packet(application_name="my app") + password())
    notice = wire.notice_response("NOTICE", "00000", "hello")
    parameters = (("server_version", "15.1"), ("application_name", "SESSION my app"))
    ready = Ready(4711, b"REAL", parameters, notice)
    data = greeter.welcome(session(), ready, b"OURS")
    assert data == (
        wire.authentication_ok()
        + wire.parameter_status("server_version", "15.1")
        + wire.parameter_status("application_name", "my app")
        + wire.backend_key_data(4711, b"OURS")
        + notice
        + wire.ready_for_query("I")
    )
    assert b"REAL" not in data


# --- parsers: whole, byte by byte, mutated -------------------------------------------------------

LOGIN = packet(wire.PROTOCOL_3_2, options="-c geqo=off", TimeZone="UTC") + password() + b"Q"


def run(greeter: PostgresGreeter, pieces: list[bytes]) -> list:
    effects = []
    for piece in pieces:
        effects += greeter.receive(piece)
    return effects


def test_a_login_bytewise_is_the_login_whole() -> None:
    whole, single = plain(), plain()
    expected = whole.receive(LOGIN)
    assert run(single, [LOGIN[i : i + 1] for i in range(len(LOGIN))]) == expected
    assert isinstance(expected[-1], Present)
    assert single.leftover() == whole.leftover() == b"Q"


@given(st.lists(st.integers(0, len(LOGIN)), max_size=8))
def test_a_login_rechunked_is_the_login_whole(cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(LOGIN)]
    pieces = [LOGIN[a:b] for a, b in zip(marks, marks[1:], strict=False)]
    assert run(plain(), pieces) == plain().receive(LOGIN)


@settings(max_examples=examples(300))
@given(
    st.lists(st.tuples(st.integers(0, len(LOGIN) - 1), st.integers(0, 255)), max_size=6),
    st.integers(1, 40),
)
def test_a_mutated_login_yields_effects_or_the_wire_error(
    changes: list[tuple[int, int]], size: int
) -> None:
    data = bytearray(LOGIN)
    for at, value in changes:
        data[at] = value
    greeter = plain()
    try:
        effects = run(greeter, [bytes(data[i : i + size]) for i in range(0, len(data), size)])
    except WireError:
        return
    closes = [i for i, effect in enumerate(effects) if isinstance(effect, Close | Cancel)]
    assert closes in ([], [len(effects) - 1])
