# SPDX-License-Identifier: GPL-3.0-or-later
"""Terminals without a browser (RFC 8628): the code that a person types, and how often one asks."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
"""RFC 8628 6.1: no vowels, so no words; no digits that look like letters."""
LETTERS = 8
"""20 ** 8 codes, 34 bits: whoever guesses has ten minutes, and few tries (throttle.py)."""
REMEMBERED = 10_000


def new_user_code() -> str:
    """`BCDF-GHJK`."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LETTERS))
    return f"{letters[:4]}-{letters[4:]}"


def plain_user_code(typed: str) -> str:
    """What was typed, without hyphens, spaces and the difference of case."""
    return "".join(letter for letter in typed[:64].upper() if letter in ALPHABET)


class PollTimes:
    """When each terminal asked last, in bounded memory."""

    def __init__(self, every: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._now = now
        self._last: OrderedDict[str, float] = OrderedDict()

    def too_soon(self, code_sha256: str) -> bool:
        """True if it asks sooner than it was told to; half a second is forgiven."""
        now = self._now()
        last = self._last.pop(code_sha256, float("-inf"))
        self._last[code_sha256] = now
        while len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return now - last < self._every - 0.5
