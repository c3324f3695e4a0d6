# SPDX-License-Identifier: GPL-3.0-or-later
"""Envelopes: whatever was changed, or stands in another's place, does not open."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials.envelope import (
    Envelope,
    context_of,
    decrypt,
    encrypt,
    rewrapped,
    seal,
    unseal,
)
from gateway.credentials.master import KeyRing, LocalKey, VaultFailed

RING = KeyRing(LocalKey(bytes(range(32))))
OTHER = KeyRing(LocalKey(bytes(32)))


def sealed(context: bytes, data: bytes) -> Envelope:
    return asyncio.run(seal(RING, context, data))


def opened(context: bytes, envelope: Envelope, ring: KeyRing = RING) -> bytes:
    return asyncio.run(unseal(ring, context, envelope))


@given(st.binary(max_size=300), st.text(max_size=20), st.integers(0, 2**40))
def test_what_was_sealed_opens_to_the_same(data: bytes, name: str, number: int) -> None:
    context = context_of("secret", name, number)
    envelope = sealed(context, data)
    assert opened(context, envelope) == data
    assert data not in envelope.sealed or len(data) < 4


@given(st.binary(min_size=1, max_size=64), st.data())
def test_any_flipped_bit_is_refused(data: bytes, draws: st.DataObject) -> None:
    context = context_of("secret", "a", 1)
    envelope = sealed(context, data)
    part = draws.draw(st.sampled_from(["wrapped", "sealed"]))
    value = bytearray(getattr(envelope, part))
    value[draws.draw(st.integers(0, len(value) - 1))] ^= 1 << draws.draw(st.integers(0, 7))
    parts = {"wrapped": envelope.wrapped, "sealed": envelope.sealed, part: bytes(value)}
    with pytest.raises(VaultFailed):
        opened(context, Envelope(envelope.master, **parts))


@given(st.binary(max_size=40), st.data())
def test_a_cut_or_a_longer_one_is_refused(data: bytes, draws: st.DataObject) -> None:
    context = context_of("secret", "a", 1)
    envelope = sealed(context, data)
    cut = draws.draw(st.integers(0, len(envelope.sealed) - 1))
    for changed in (envelope.sealed[:cut], envelope.sealed + b"\0"):
        with pytest.raises(VaultFailed):
            opened(context, Envelope(envelope.master, envelope.wrapped, changed))
    cut = draws.draw(st.integers(0, len(envelope.wrapped) - 1))
    for changed in (envelope.wrapped[:cut], envelope.wrapped + b"\0"):
        with pytest.raises(VaultFailed):
            opened(context, Envelope(envelope.master, changed, envelope.sealed))


_parts = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 999)), min_size=1, max_size=4)


@given(_parts, _parts)
def test_no_two_contexts_are_the_same_bytes(one: list[str | int], other: list[str | int]) -> None:
    same = [str(part) for part in one] == [str(part) for part in other]
    assert (context_of(*one) == context_of(*other)) == same


@given(_parts, _parts)
def test_an_envelope_opens_in_its_own_place_only(
    one: list[str | int], other: list[str | int]
) -> None:
    here, there = context_of(*one), context_of(*other)
    if here != there:
        with pytest.raises(VaultFailed):
            opened(there, sealed(here, b"x"))


def test_halves_of_two_envelopes_do_not_fit_each_other() -> None:
    context = context_of("secret", "a", 1)
    one, two = sealed(context, b"one"), sealed(context, b"two")
    with pytest.raises(VaultFailed, match="restore the store"):
        opened(context, Envelope(one.master, one.wrapped, two.sealed))


def test_another_master_key_opens_nothing_and_says_which_it_needs() -> None:
    envelope = sealed(b"c", b"data")
    with pytest.raises(VaultFailed, match=rf"{envelope.master}.*master_key.previous"):
        opened(b"c", envelope, OTHER)
    with pytest.raises(VaultFailed):
        opened(b"c", Envelope(OTHER.current.id, envelope.wrapped, envelope.sealed), OTHER)


def test_a_rewrapped_key_opens_under_the_new_master_key_alone() -> None:
    envelope = sealed(b"c", b"data")
    both = KeyRing(OTHER.current, [RING.current])
    master, wrapped = asyncio.run(rewrapped(both, b"c", envelope.master, envelope.wrapped))
    again = Envelope(master, wrapped, envelope.sealed)
    assert opened(b"c", again, OTHER) == b"data"
    with pytest.raises(VaultFailed):
        opened(b"c", again)


def test_no_two_seals_are_alike_and_no_secret_is_in_a_repr() -> None:
    one, two = sealed(b"c", b"seeded-secret"), sealed(b"c", b"seeded-secret")
    assert one.sealed != two.sealed and one.wrapped != two.wrapped
    assert "sealed" not in repr(one).replace("Envelope(", "") and "wrapped" not in repr(one)


def test_an_unknown_format_is_refused() -> None:
    key = os.urandom(32)
    sealed_data = encrypt(key, b"c", b"x")
    with pytest.raises(VaultFailed, match="format"):
        decrypt(key, b"c", b"\x02" + sealed_data[1:])
