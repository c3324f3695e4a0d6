# SPDX-License-Identifier: GPL-3.0-or-later
"""With how many examples a property is tried: few with each change, many with `make fuzz`."""

from __future__ import annotations

import os

FUZZ_FACTOR = 50


def examples(count: int) -> int:
    """`count` with each change; FUZZ_FACTOR times as many where HYPOTHESIS_PROFILE is `fuzz`."""
    return count * FUZZ_FACTOR if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else count
