# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file of a recorded corpus changed in every way: all of it is found.

The long run is in tests/soak/test_mutation_campaign.py.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.campaign import (
    Corpus,
    at_random,
    every_file,
    may_be_gone,
    recorded,
    survivors,
)

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
async def corpus(tmp_path: Path) -> AsyncIterator[Corpus]:
    made = await recorded(tmp_path)
    yield made
    made.auditor.end()


async def test_every_file_changed_in_every_way_is_found(corpus: Corpus) -> None:
    tried, left = survivors(corpus, every_file(corpus, random.Random(5)))
    assert left == []
    assert tried > 300


async def test_changes_at_random_are_found(corpus: Corpus) -> None:
    tried, left = survivors(corpus, at_random(corpus, random.Random(7), 150))
    assert (tried, left) == (150, [])


async def test_without_the_auditors_key_content_alone_is_not_opened(corpus: Corpus) -> None:
    """Public keys are enough for everything but a wrap or payload that was made wrong at first."""
    left = []
    for mutant in at_random(corpus, random.Random(11), 60):
        with mutant.applied(corpus.root):
            findings = corpus.verify(opened=False)
        if findings.exit_code != 1 and not may_be_gone(corpus, mutant):
            left.append(str(mutant))
    assert left == []
