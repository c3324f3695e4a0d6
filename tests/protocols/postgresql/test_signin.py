# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's own login, scripted: methods that are fixed, and targets that misbehave."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import Credential, Grant, Identity, Session, Target, Tls
from gateway.protocols import ClientTls, Derive, Failed, Ready, ToTarget
from gateway.protocols.postgresql import wire
from gateway.protocols.postgresql.options import PostgresOptions
from gateway.protocols.postgresql.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    ScramClient,
    ScramError,
    prepared_password,
)
from gateway.protocols.postgresql.signin import PostgresSignin, cancel_request
from tests.examples import examples

NONCE = bytes(range(18))
SALT = b"saltsaltsaltsalt"
SECRET = "pencil-of-the-gateway"
PLAIN = Tls(mode="disable")


def signin(
    login: str = "trust",
    *,
    tls: Tls = PLAIN,
    host: str = "127.0.0.1",
    secret: str = SECRET,
    parameters: tuple[tuple[str, str], ...] = (),
    labels: dict[str, str] | None = None,
) -> PostgresSignin:
    target = Target("orders", "postgresql", host, 5432, tls=tls, options=PostgresOptions())
    grant = Grant("g", Identity("i", "alice"))
    session = Session("s" * 26, 0, grant, target, "app", "db1", "127.0.0.1:1", labels or {})
    return PostgresSignin(
        target, Credential("cred", "app", login, secret), session, parameters, NONCE
    )


def sent(effects: list[Any]) -> bytes:
    assert all(isinstance(effect, ToTarget) for effect in effects), effects
    return b"".join(effect.data for effect in effects)


def failed(effects: list[Any]) -> Failed:
    assert isinstance(effects[-1], Failed), effects
    assert SECRET not in effects[-1].cause
    assert SECRET.encode() not in effects[-1].relayed
    assert effects[-1].refusal.code == "target"
    assert effects[-1].refusal.session == "s" * 26
    return effects[-1]


def status(name: str, value: str) -> bytes:
    return wire.parameter_status(name, value)


READY = wire.backend_key_data(77, b"real") + wire.ready_for_query("I")
ACCEPTED = wire.authentication_ok() + status("server_version", "15.1") + READY


class ScramServer:
    """A server of SCRAM-SHA-256, from RFC 5802 alone."""

    def __init__(self, password: bytes, binding: bytes = b"", iterations: int = 4096) -> None:
        self.salted = hashlib.pbkdf2_hmac("sha256", password, SALT, iterations)
        self.binding, self.iterations = binding, iterations

    def challenge(self, data: bytes) -> bytes:
        mechanism, _, rest = data[5:].partition(b"\0")
        self.mechanism, first = mechanism.decode(), rest[4:]
        self.gs2, self.bare = first[: first.index(b",,") + 2], first[first.index(b",,") + 2 :]
        nonce = self.bare.split(b"r=")[1] + b"SERVER"
        salt = base64.b64encode(SALT)
        self.first = b"r=%s,s=%s,i=%d" % (nonce, salt, self.iterations)
        return wire.authentication(11, self.first)

    def check(self, data: bytes) -> bytes:
        import hmac

        without, _, proof = data[5:].rpartition(b",p=")
        channel = without.split(b",")[0][2:]
        assert base64.b64decode(channel) == self.gs2 + self.binding
        signed = b",".join((self.bare, self.first, without))
        key = hmac.digest(self.salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        mine = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        assert mine == key, "the proof is wrong"
        server = hmac.digest(self.salted, b"Server Key", "sha256")
        return wire.authentication(
            12, b"v=" + base64.b64encode(hmac.digest(server, signed, "sha256"))
        )


def offer(*names: str) -> bytes:
    return wire.authentication(10, b"".join(n.encode() + b"\0" for n in names) + b"\0")


def scram_until_challenge(iterations: int = 4096) -> tuple[PostgresSignin, ScramServer, Derive]:
    login, server = signin("scram-sha-256"), ScramServer(SECRET.encode(), iterations=iterations)
    login.begin()
    (derive,) = login.receive(server.challenge(sent(login.receive(offer(MECHANISM)))))
    assert isinstance(derive, Derive)
    return login, server, derive


# --- what is sent --------------------------------------------------------------------------------


def test_the_start_up_message_names_the_session_and_carries_the_settings() -> None:
    login = signin(parameters=(("timezone", "UTC"),), labels={"application_name": "psql"})
    expected = [
        ("timezone", "UTC"),
        ("user", "app"),
        ("database", "db1"),
        ("application_name", "s" * 26 + " psql"),
    ]
    assert login.begin() == [ToTarget(wire.startup_message(expected), own=True)]


def test_a_setting_that_is_not_on_the_list_never_reaches_the_target() -> None:
    effects = signin(parameters=(("local_preload_libraries", "x"),)).begin()
    assert [type(effect) for effect in effects] == [Failed]


def test_tls_is_asked_first_and_the_start_up_message_goes_inside() -> None:
    login = signin("certificate", tls=Tls(cert_path="c", key_path="k"))
    assert login.begin() == [ToTarget(wire.ssl_request(), own=True)]
    assert login.receive(b"S") == [ClientTls()]
    assert sent(login.tls_started(b"x"))[4:8] == struct.pack("!I", 196608)
    (ready,) = login.receive(ACCEPTED)
    assert isinstance(ready, Ready)


@pytest.mark.parametrize("answer", [b"N", b"E", b"Sx", b"S" + ACCEPTED, b"\x15"])
def test_an_answer_to_ssl_request_that_is_not_s_alone_ends_it(answer: bytes) -> None:
    login = signin(tls=Tls())
    login.begin()
    failed(login.receive(answer))


def test_bytes_while_tls_is_set_up_end_it() -> None:
    login = signin(tls=Tls())
    login.begin()
    login.receive(b"S")
    failed(login.receive(ACCEPTED))


# --- scram ---------------------------------------------------------------------------------------


def test_the_exchange_of_rfc_7677_is_reproduced() -> None:
    nonce = base64.b64decode(b"rOprNGfwEbeRWgbNEkqO")
    client = ScramClient(nonce, (MECHANISM,), None, 4096, user=b"user")
    assert client.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    client.challenged(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", client.salt, client.iterations)
    assert client.final(salted) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(ScramError):
        client.verify(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def test_scram_signs_in_and_the_derivation_is_the_callers() -> None:
    login, server, derive = scram_until_challenge()
    assert derive == Derive(SECRET.encode(), SALT, 4096)
    answer = server.check(sent(login.derived(server.salted)))
    assert server.gs2 == b"n,,"
    (ready,) = login.receive(answer + ACCEPTED)
    assert ready == Ready(77, b"real", (("server_version", "15.1"),))


@pytest.mark.parametrize(
    ("binding", "offered", "mechanism", "flag"),
    [
        (b"hash", (MECHANISM_PLUS, MECHANISM), MECHANISM_PLUS, b"p=tls-server-end-point,,"),
        (b"hash", (MECHANISM,), MECHANISM, b"y,,"),
        (None, (MECHANISM_PLUS, MECHANISM), MECHANISM, b"n,,"),
    ],
)
def test_channel_binding_is_used_where_both_sides_can(
    binding: bytes | None, offered: tuple[str, ...], mechanism: str, flag: bytes
) -> None:
    login = signin("scram-sha-256", tls=Tls())
    server = ScramServer(SECRET.encode(), b"hash" if flag.startswith(b"p") else b"")
    login.begin()
    login.receive(b"S")
    login.tls_started(binding)
    login.receive(server.challenge(sent(login.receive(offer(*offered)))))
    answer = server.check(sent(login.derived(server.salted)))
    assert (server.mechanism, server.gs2) == (mechanism, flag)
    assert isinstance(login.receive(answer + ACCEPTED)[0], Ready)


def test_channel_binding_offered_without_tls_is_refused() -> None:
    login = signin("scram-sha-256")
    login.begin()
    failed(login.receive(offer(MECHANISM_PLUS, MECHANISM)))


@pytest.mark.parametrize("offered", [("SCRAM-SHA-1",), ("PLAIN",), (MECHANISM_PLUS,)])
def test_no_other_mechanism_will_do(offered: tuple[str, ...]) -> None:
    login = signin("scram-sha-256")
    login.begin()
    failed(login.receive(offer(*offered)))


@pytest.mark.parametrize("iterations", [0, 1, 4095, 1_000_001, 2**31, 10**40])
def test_iterations_are_capped_both_ways(iterations: int) -> None:
    login = signin("scram-sha-256")
    login.begin()
    first = sent(login.receive(offer(MECHANISM)))
    nonce = first.split(b"r=")[1] + b"x"
    salt = base64.b64encode(SALT)
    failed(login.receive(wire.authentication(11, b"r=%s,s=%s,i=%d" % (nonce, salt, iterations))))


@pytest.mark.parametrize(
    "template",
    [
        b"r=%s,s=c2FsdA==,i=4096",  # nonce not extended
        b"r=other,s=c2FsdA==,i=4096",
        b"r=%sx,s=c2Fsd,i=4096",
        b"r=%sx,s=!!!!,i=4096",
        b"r=%sx,s=,i=4096",
        b"r=%sx,s=c2FsdA==,i=-4096",
        b"r=%sx,s=c2FsdA==,i=4096x",
        b"r=%sx,s=c2FsdA==,i=",
        b"r=%sx,s=c2FsdA==",
        b"m=ext,r=%sx,s=c2FsdA==,i=4096",
        b"s=c2FsdA==,r=%sx,i=4096",
        b"r=%s\x01,s=c2FsdA==,i=4096",
        b"",
        b"r=%s" + b"x" * 5000 + b",s=c2FsdA==,i=4096",
    ],
)
def test_a_malformed_challenge_ends_only_this_login(template: bytes) -> None:
    login = signin("scram-sha-256")
    login.begin()
    nonce = sent(login.receive(offer(MECHANISM))).split(b"r=")[1]
    failed(login.receive(wire.authentication(11, template.replace(b"%s", nonce))))


@pytest.mark.parametrize("final", [b"v=AAAA", b"v=", b"", b"e=invalid-proof", b"v=!!!", b"x=1"])
def test_a_target_that_does_not_prove_itself_is_refused(final: bytes) -> None:
    login, server, _ = scram_until_challenge()
    sent(login.derived(server.salted))
    failed(login.receive(wire.authentication(12, final) + ACCEPTED))


def test_accepting_without_the_proof_is_refused() -> None:
    login, server, _ = scram_until_challenge()
    failed(login.receive(ACCEPTED))
    login, server, _ = scram_until_challenge()
    sent(login.derived(server.salted))
    failed(login.receive(ACCEPTED))


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("pencil", b"pencil"),
        ("I\u00adX", b"IX"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("\u0007", b"\x07"),
        ("\u0627\u0031", "\u0627\u0031".encode()),
        ("\u00ad", "\u00ad".encode()),
    ],
)
def test_passwords_are_prepared_as_rfc_4013_and_the_server_say(
    password: str, prepared: bytes
) -> None:
    assert prepared_password(password) == prepared


# --- other methods, and being talked down --------------------------------------------------------


def test_md5_answers_the_salt() -> None:
    login = signin("md5")
    login.begin()
    inner = hashlib.md5((SECRET + "app").encode()).hexdigest()
    outer = hashlib.md5(inner.encode() + b"SALT").hexdigest()
    answer = sent(login.receive(wire.authentication(5, b"SALT")))
    assert answer == wire.password_message(b"md5" + outer.encode() + b"\0")
    assert isinstance(login.receive(ACCEPTED)[0], Ready)


def test_a_password_goes_to_a_loopback_address_in_the_clear() -> None:
    login = signin("password")
    login.begin()
    answer = sent(login.receive(wire.authentication(3)))
    assert answer == wire.password_message(SECRET.encode() + b"\0")
    assert isinstance(login.receive(ACCEPTED)[0], Ready)


ASKED = {
    "trust": wire.authentication_ok(),
    "password": wire.authentication(3),
    "md5": wire.authentication(5, b"SALT"),
    "scram-sha-256": offer(MECHANISM),
    "gss": wire.authentication(7),
    "sspi": wire.authentication(9),
    "unknown": wire.authentication(99),
    "kerberos": wire.authentication(2),
    "short salt": wire.authentication(5, b"SA"),
    "continue": wire.authentication(11, b"r=x"),
    "final": wire.authentication(12, b"v=x"),
}


@pytest.mark.parametrize("login", ["trust", "password", "md5", "scram-sha-256"])
@pytest.mark.parametrize("asked", ASKED)
def test_a_target_cannot_ask_for_another_method(login: str, asked: str) -> None:
    if asked == login:
        return
    conversation = signin(login)
    conversation.begin()
    told = failed(conversation.receive(ASKED[asked] + ACCEPTED))
    assert told.relayed == b""
    assert conversation.receive(ACCEPTED) == []


@pytest.mark.parametrize(
    ("login", "more"),
    [
        ("password", {"host": "db.example"}),
        ("trust", {"host": "db.example"}),
        ("trust", {"host": "10.0.0.1"}),
        ("certificate", {}),
        ("certificate", {"tls": Tls()}),
        ("md5", {"secret": ""}),
        ("scram-sha-256", {"secret": ""}),
        ("ldap", {}),
        ("md5", {"secret": "a\0b"}),
    ],
)
def test_a_login_that_cannot_be_safe_never_starts(login: str, more: dict[str, Any]) -> None:
    effects = signin(login, **more).begin()
    assert [type(effect) for effect in effects] == [Failed]


# --- the session's start -------------------------------------------------------------------------


def test_parameters_notices_and_key_are_collected() -> None:
    login = signin()
    login.begin()
    notice = wire.notice_response("WARNING", "01000", "careful")
    late = status("in_hot_standby", "off")
    data = wire.authentication_ok() + notice + status("a", "1") + status("a", "2") + READY + late
    assert login.receive(data) == [
        Ready(77, b"real", (("a", "2"), ("in_hot_standby", "off")), notice)
    ]


@pytest.mark.parametrize(
    "data",
    [
        status("a", "1"),
        READY,
        wire.authentication_ok() + wire.ready_for_query("T"),
        wire.authentication_ok() + wire.message(ord("S"), b"a\0"),
        wire.authentication_ok() + wire.message(ord("K"), b"abc"),
        wire.authentication_ok() + wire.message(ord("K"), b"a" * 40),
        wire.authentication_ok() + wire.authentication_ok(),
        wire.authentication_ok() + wire.message(ord("D"), b"\0\0"),
        wire.authentication_ok() + wire.message(ord("v"), bytes(8)),
        wire.authentication_ok() + READY + wire.message(ord("D"), b"\0\0"),
        wire.authentication_ok() + READY + b"S\0",
        b"R\0\0\0\x03",
        b"R\xff\xff\xff\xff",
        b"R\0\0\0\x05\0",
        b"S\x7f\xff\xff\xff",
        b"E\0\0\0\x06Cx",
        b"E\0\0\0\x04",
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_a_target_that_breaks_the_protocol_is_refused(data: bytes) -> None:
    login = signin()
    login.begin()
    failed(login.receive(data))


def test_what_a_target_may_send_before_it_is_ready_is_bounded() -> None:
    login = signin()
    login.begin()
    login.receive(wire.authentication_ok())
    for number in range(1000):
        effects = login.receive(status(f"name{number}", "x"))
        if effects:
            break
    failed(effects)
    login = signin()
    login.begin()
    effects = []
    while not effects:
        effects = login.receive(wire.notice_response("NOTICE", "00000", "x" * 60_000))
    failed(effects)


@pytest.mark.parametrize("state", ["53300", "3D000", "57P03", "22023", "55000", "42704"])
def test_errors_about_the_request_are_relayed_as_they_are(state: str) -> None:
    login = signin()
    login.begin()
    error = wire.error_response(state, "the server's words", severity="FATAL")
    assert failed(login.receive(error)).relayed == error


@pytest.mark.parametrize("state", ["28P01", "28000", "XX000", ""])
def test_errors_about_our_credential_go_to_the_log_only(state: str) -> None:
    login = signin()
    login.begin()
    error = wire.error_response(state, f'role "app" {SECRET} is bad', severity="FATAL")
    told = failed(login.receive(error))
    assert told.relayed == b""
    assert "is bad" in told.cause
    assert "is bad" not in told.refusal.reason


def test_a_relayed_error_never_carries_our_secret() -> None:
    login = signin()
    login.begin()
    error = wire.error_response("53300", f"too many, {SECRET}", severity="FATAL")
    assert failed(login.receive(error)).relayed == b""


@pytest.mark.parametrize("before", range(470, 610, 7))
def test_no_half_of_our_secret_is_left_where_a_cause_is_cut(before: int) -> None:
    login = signin()
    login.begin()
    error = wire.error_response("28P01", "x" * before + SECRET, severity="FATAL")
    cause = failed(login.receive(error)).cause
    assert SECRET[:3] not in cause
    assert len(cause) < 700


def test_a_cancel_request_has_the_targets_own_key() -> None:
    assert cancel_request(Ready(77, b"real", ())) == struct.pack("!III", 16, 80877102, 77) + b"real"
    assert cancel_request(Ready(0, b"", ())) == b""


# --- byte by byte and mutated --------------------------------------------------------------------


def scram_script(size: int, change: dict[int, int] | None = None) -> list[Any]:
    """The whole target side of a SCRAM login, in pieces; `change` replaces bytes of it."""
    login, server = signin("scram-sha-256"), ScramServer(SECRET.encode())
    last, position, effects = b"", 0, list(login.begin())

    def feed(data: bytes) -> None:
        nonlocal position, last
        data = bytes((change or {}).get(position + i, byte) for i, byte in enumerate(data))
        position += len(data)
        for at in range(0, len(data), size):
            for effect in login.receive(data[at : at + size]):
                effects.append(effect)
                last = effect.data if isinstance(effect, ToTarget) else last

    feed(offer(MECHANISM))
    if last:
        feed(server.challenge(last))
    if effects and isinstance(effects[-1], Derive):
        effects += login.derived(hashlib.pbkdf2_hmac("sha256", SECRET.encode(), SALT, 1))
        if change is None:
            return effects
        feed(wire.authentication(12, b"v=" + base64.b64encode(bytes(32))) + ACCEPTED)
    return effects


def test_a_login_bytewise_is_the_login_whole() -> None:
    assert scram_script(1) == scram_script(10_000)
    single, whole = signin(), signin()
    single.begin()
    whole.begin()
    pieces = [single.receive(ACCEPTED[i : i + 1]) for i in range(len(ACCEPTED))]
    assert sum(pieces, []) == whole.receive(ACCEPTED)


@settings(max_examples=examples(150), deadline=None)
@given(st.dictionaries(st.integers(0, 150), st.integers(0, 255), max_size=4), st.integers(1, 60))
def test_a_mutated_target_never_gets_in_without_the_proof(
    change: dict[int, int], size: int
) -> None:
    effects = scram_script(size, change)
    assert not any(isinstance(effect, Ready) for effect in effects)


@settings(max_examples=examples(200))
@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_mutated_end_in_effects_and_nothing_else(data: bytes, size: int) -> None:
    login = signin()
    login.begin()
    effects: list[Any] = []
    for at in range(0, len(data), size):
        effects += login.receive(data[at : at + size])
    assert sum(isinstance(effect, Failed | Ready) for effect in effects) <= 1
