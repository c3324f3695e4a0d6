# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of mutants of a recorded corpus: all are found."""

from __future__ import annotations

import os
import random
import secrets
from pathlib import Path

import pytest

from tests.faults.campaign import at_random, every_file, recorded, survivors

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(7200)]
MUTANTS = int(os.environ.get("TRAILGATE_MUTANTS", "5000"))


async def test_thousands_of_changes_are_found(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}, {MUTANTS} mutants")
    corpus = await recorded(tmp_path)
    try:
        dice = random.Random(seed)
        tried, left = survivors(corpus, every_file(corpus, dice))
        more, others = survivors(corpus, at_random(corpus, dice, max(0, MUTANTS - tried)))
        assert left + others == [], f"seed {seed}"
        assert tried + more >= MUTANTS
    finally:
        corpus.auditor.end()
