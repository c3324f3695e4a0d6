# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten thousand children drawn: none gets more than those above it (tests/policy/test_chains.py)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

from tests.policy.test_chains import ANY_FAMILY, HOW, check_family


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=3400, **HOW)
@ANY_FAMILY
def test_ten_thousand_children_get_no_more_than_those_above_them(**family: Any) -> None:
    check_family(**family)
