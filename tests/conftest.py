# SPDX-License-Identifier: GPL-3.0-or-later
"""How Hypothesis draws, for all tests: no deadline, since timing decides no test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.examples import examples

settings.register_profile(
    "trailgate",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=examples(100),
    print_blob=True,
)
settings.load_profile("trailgate")
