# SPDX-License-Identifier: GPL-3.0-or-later
"""What every protocol must keep, whatever it speaks: run over all that `discover()` finds."""

from __future__ import annotations

import pytest

from gateway.model import Decision, Grant, Identity, Refusal, Session, Target, Verdict
from gateway.protocols import (
    Ask,
    Close,
    Dialog,
    Done,
    ProtocolDefinition,
    Ready,
    ToTarget,
    WireError,
    discover,
    joined,
)
from tests.protocols.postgresql import samples as postgresql_samples

PROTOCOLS = discover()
SAMPLES = {"postgresql": postgresql_samples}
DENY = Decision(Verdict.DENY, "p", "v", "r", "because")


@pytest.fixture(params=sorted(PROTOCOLS))
def protocol(request: pytest.FixtureRequest) -> ProtocolDefinition:
    return PROTOCOLS[request.param]


def dialog_of(protocol: ProtocolDefinition) -> Dialog:
    grant = Grant("g", Identity("issuer", "alice"))
    target = Target("t", protocol.name, "127.0.0.1", protocol.default_port)
    session = Session("s1", 1, grant, target, "user", "db", "client")
    return protocol.dialog(session, Ready(1, b"key!", SAMPLES[protocol.name].PARAMETERS))


def test_every_protocol_has_samples_for_this_suite() -> None:
    assert sorted(SAMPLES) == sorted(PROTOCOLS)


def test_a_definition_is_complete(protocol: ProtocolDefinition) -> None:
    assert isinstance(protocol, ProtocolDefinition)
    assert 0 < protocol.default_port < 65536 and protocol.options()


def test_denied_means_that_the_target_saw_no_byte_of_it(protocol: ProtocolDefinition) -> None:
    for name, request in SAMPLES[protocol.name].REQUESTS.items():
        for size in (len(request), 1):
            dialog, sent, denied = dialog_of(protocol), b"", 0
            for at in range(0, len(request), size):
                effects = list(dialog.from_client(request[at : at + size]))
                while effects:
                    effect = effects.pop(0)
                    if isinstance(effect, Ask):
                        effects += dialog.decided(effect.operation.id, DENY)
                    elif isinstance(effect, ToTarget) and not effect.own:
                        sent += effect.data
                    elif isinstance(effect, Done):
                        denied += effect.outcome.status == "denied"
                    assert not isinstance(effect, Close), name
            assert sent in SAMPLES[protocol.name].HARMLESS, name
            assert denied >= 1, name


def test_an_undecided_operation_holds_back_itself_and_nothing_else(
    protocol: ProtocolDefinition,
) -> None:
    for name, request in SAMPLES[protocol.name].REQUESTS.items():
        dialog = dialog_of(protocol)
        effects = dialog.from_client(request)
        assert isinstance(effects[-1], Ask), name
        assert joined(effects, ToTarget) == b"", name
        assert dialog.buffered > 0 and dialog.at_border


def test_a_client_that_leaves_undecided_runs_nothing(protocol: ProtocolDefinition) -> None:
    for name, request in SAMPLES[protocol.name].REQUESTS.items():
        dialog = dialog_of(protocol)
        dialog.from_client(request)
        effects = dialog.client_gone()
        assert isinstance(effects[-1], Close), name
        ended = [effect.outcome.status for effect in effects if isinstance(effect, Done)]
        assert ended == ["not_run"], name
        assert dialog.from_client(request) == []


def test_a_refusal_ends_the_session_and_says_so(protocol: ProtocolDefinition) -> None:
    dialog = dialog_of(protocol)
    effects = dialog.refused(Refusal("unavailable", "record", "the record cannot be written"))
    assert isinstance(effects[-1], Close) and effects[-1].reason == "record"
    assert b"the record cannot be written" in joined(effects, type(effects[0]))
    assert dialog.from_target(b"x") == []


def test_a_parser_returns_or_raises_the_wire_error(protocol: ProtocolDefinition) -> None:
    for request in SAMPLES[protocol.name].REQUESTS.values():
        for at in range(len(request)):
            mutated = request[:at] + bytes([request[at] ^ 0x41]) + request[at + 1 :]
            dialog = dialog_of(protocol)
            try:
                dialog.from_client(mutated)
                dialog.from_target(mutated)
            except WireError:
                continue
