# SPDX-License-Identifier: GPL-3.0-or-later
"""What a log may say of an exception that was not foreseen."""

from __future__ import annotations

import traceback

_FRAMES = 12


def traced(exc: BaseException) -> dict[str, str]:
    """Its type and where it was raised, for a log line's `extra`.

    Not its text: that may quote what it failed on, a token or a client's statement.
    """
    places = traceback.extract_tb(exc.__traceback__)[-_FRAMES:]
    return {
        "error": type(exc).__name__,
        "places": " < ".join(f"{at.name}:{at.lineno}" for at in reversed(places)),
    }
