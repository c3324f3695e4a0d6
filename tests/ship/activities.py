# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole activities, as the record gives them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

SESSION = "a" * 26
_COMMON: dict[str, Any] = {
    "session": SESSION, "node": "gw1", "target": "orders", "protocol": "postgresql",
    "user": "app", "client": "10.0.0.9:5000", "origin": "alice", "groups": ["data"],
    "chain": ["alice", "boss", "reader"], "grant": "g_3", "ancestors": ["g_1", "g_2"],
    "root_grant": "g_1", "time": datetime(2026, 11, 24, 12, tzinfo=UTC),
}  # fmt: skip


def operation(**more: Any) -> dict[str, Any]:
    """A read of `customers` that was allowed."""
    return {
        **_COMMON, "class_uid": 6005, "category_uid": 6, "activity_id": 4, "type_uid": 600504,
        "severity_id": 1, "status_id": 1, "action_id": 1, "operation": 1, "frame": 2, "leaf": 2,
        "kind": "query", "objects": [{"name": "customers", "access": "read"}],
        "statement": "SELECT ? FROM customers", "text": None, "shape": "ab12",
        "verdict": "allow", "policy": "shop", "policy_version": "v1", "rule": "data",
        "reason": None, "status": "ok", "tag": "SELECT 1", "sqlstate": None, "rows": 1,
        "bytes": 60, **more,
    }  # fmt: skip


def login(kind: str = "open", **more: Any) -> dict[str, Any]:
    """The begin or the end of a session."""
    activity = 1 if kind == "open" else 2
    return {
        **_COMMON, "class_uid": 3002, "category_uid": 3, "activity_id": activity,
        "type_uid": 300200 + activity, "severity_id": 1, "status_id": 1, "action_id": 1,
        "kind": kind, **more,
    }  # fmt: skip
