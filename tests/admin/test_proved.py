# SPDX-License-Identifier: GPL-3.0-or-later
"""`--proved`: an answer counts only as far as the evidence is there and unchanged."""

from __future__ import annotations

import pytest

from gateway.admin.cli._proved import Proved
from gateway.admin.cli.output import Failed

TO = "2026-11-24T12:00:00.000000Z"


def test_what_is_proved_passes() -> None:
    Proved(TO, ()).demand(None)
    Proved(TO, ()).demand(TO)


@pytest.mark.parametrize(
    ("found", "newest", "told"),
    [
        (Proved(None, ()), None, "has a defect"),
        (Proved(TO, ("lost with its node: abc",)), None, "has a hole: lost"),
        (Proved(TO, ()), "2026-11-24T12:00:00.000001Z", "goes on to"),
    ],
)
def test_a_defect_a_hole_and_what_is_newer_fail(
    found: Proved, newest: str | None, told: str
) -> None:
    with pytest.raises(Failed, match=told) as failed:
        found.demand(newest)
    assert failed.value.exit_code == 1
