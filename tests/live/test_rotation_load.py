# SPDX-License-Identifier: GPL-3.0-or-later
"""A few rotations under load; tests/soak/test_rotation.py makes a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.admin.cli.demo.postgres_server import PostgresServer
from tests.live.rotation_load import rotate_under_load

pytestmark = pytest.mark.live


@pytest.mark.parametrize("plan", ["single", "two"])
def test_no_login_fails_and_no_session_breaks(
    plan: str, shop: PostgresServer, tmp_path: Path
) -> None:
    load = rotate_under_load(plan, 6, shop, tmp_path)
    assert load.complaints == [] and load.logins > 0
