# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateway handles: shape, check characters, and what is refused before any look-up."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.handles import handle_sha256, new_handle
from gateway.model import Refused


def test_a_handle_is_tg_43_and_6_characters() -> None:
    assert re.fullmatch(r"tg_[A-Za-z0-9_-]{43}[A-Za-z0-9_-]{6}", new_handle())


def test_handles_do_not_repeat_and_hash_to_64_hex_characters() -> None:
    handles = {new_handle() for _ in range(1000)}
    assert len(handles) == 1000
    assert all(re.fullmatch("[0-9a-f]{64}", handle_sha256(handle)) for handle in handles)


@given(st.integers(3, 51), st.characters(codec="utf-8"))
def test_any_one_changed_character_is_refused(place: int, character: str) -> None:
    handle = new_handle()
    changed = handle[:place] + character + handle[place + 1 :]
    if changed == handle:
        return
    with pytest.raises(Refused) as refused:
        handle_sha256(changed)
    assert refused.value.refusal.code == "bad_token"
    assert changed not in str(refused.value) + refused.value.refusal.reason


@given(st.text(max_size=80))
def test_no_text_at_all_passes_as_a_handle(text: str) -> None:
    with pytest.raises(Refused):
        handle_sha256("tg_" + text)
