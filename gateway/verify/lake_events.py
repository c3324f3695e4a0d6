# SPDX-License-Identifier: GPL-3.0-or-later
"""A row of the lake against itself: what OCSF's attributes must say, by the row's own members."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Row = dict[str, Any]
MAPPED = ("class_uid", "activity_id", "severity_id", "status_id", "action_id")
OURS = (
    *("session", "operation", "frame", "leaf", "node", "target", "protocol", "user", "client"),
    *("origin", "groups", "chain", "grant", "ancestors", "root_grant", "kind", "objects"),
    *("statement", "shape", "verdict", "policy", "policy_version", "rule", "reason", "status"),
    *("tag", "rows", "bytes", "sqlstate"),
)
"""Members of `unmapped` that the evidence's clear part tells: all but `text`."""
FOLDERS = {6005: "datastore_activity", 3002: "authentication"}
_CLASSES = {
    6005: ("Datastore Activity", 6, "Application Activity"),
    3002: ("Authentication", 3, "Identity & Access Management"),
}
_NAMES = {
    6005: {2: "Update", 4: "Query", 5: "Write", 6: "Create", 7: "Delete"},
    3002: {1: "Logon", 2: "Logoff"},
}
_DISPOSITIONS = {"allow": (1, "Allowed"), "deny": (2, "Blocked"), "hold": (14, "Delayed"),
                 "would_deny": (17, "Logged")}  # fmt: skip


def microseconds(time: Any) -> int | None:
    """Since the Unix epoch: of a time in RFC 3339, of a datetime, or as it is."""
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return None
    if isinstance(time, datetime):
        moment = time if time.tzinfo else time.replace(tzinfo=UTC)
        return int(moment.replace(microsecond=0).timestamp()) * 10**6 + moment.microsecond
    return time if isinstance(time, int) else None


def flat(stored: Mapping[str, Any]) -> Row:
    """The activity that a stored row is of."""
    ours = stored.get("unmapped") or {}
    row = {name: ours.get(name) for name in OURS}
    objects = row["objects"]
    row["objects"] = [[one["name"], one["access"]] for one in objects] if objects else objects
    return {**{name: stored.get(name) for name in MAPPED}, "time": microseconds(stored.get("time")),
            **row}  # fmt: skip


def normal(row: Row) -> Row:
    """A row made from the evidence in the form that `flat` gives."""
    told = {name: row.get(name) for name in (*MAPPED, *OURS)}
    return {**told, "time": microseconds(row["time"])}


def ocsf(row: Row, text: str | None) -> Row:
    """OCSF's attributes of an activity but `time` and `unmapped`; `text`: the full statement."""
    class_uid, activity = row["class_uid"], row["activity_id"]
    name, category, category_name = _CLASSES[class_uid]
    label = _NAMES[class_uid].get(activity, "Other")
    concern = row["severity_id"] == 3
    uid = f"{row['session']}/{row['kind']}"
    if class_uid == 6005:
        uid = f"{row['session']}/{row['operation']}/{row['frame']}"
    groups = [{"name": one} for one in row["groups"] or ()] or None
    user = {"name": row["origin"] or "unknown", "groups": groups}
    common = {
        "class_uid": class_uid, "class_name": name, "category_uid": category,
        "category_name": category_name, "activity_id": activity, "activity_name": label,
        "type_uid": class_uid * 100 + activity, "type_name": f"{name}: {label}",
        "severity_id": row["severity_id"], "severity": "Medium" if concern else "Informational",
        "status_id": row["status_id"],
        "status": {0: "Unknown", 1: "Success", 2: "Failure"}.get(row["status_id"]),
        "status_detail": row["reason"],
        "metadata": {
            "version": "1.8.0", "profiles": ["security_control"], "uid": uid,
            "product": {"name": "Trailgate", "vendor_name": "Trailgate"},
            "correlation_uid": row["session"], "log_name": row["node"],
        },
        "actor": {"user": user, "session": {"uid": row["session"]},
                  "app_name": row["chain"][-1] if row["chain"] else None},
        "src_endpoint": _endpoint(row["client"]),
        "dst_endpoint": {"name": row["target"] or "unknown", "svc_name": row["protocol"]},
    }  # fmt: skip
    return {**common, **(_datastore(row, text) if class_uid == 6005 else _login(row, user))}


def _datastore(row: Row, text: str | None) -> Row:
    denied = row["verdict"] in ("deny", "hold")
    disposition, disposition_name = _DISPOSITIONS.get(str(row["verdict"]), (0, "Unknown"))
    objects = row["objects"] or ()
    relation = next((name for name, access in objects if access != "call"), None)
    query = text or row["statement"]
    info = {"query_string": query, "name": row["kind"] or "query", "uid": row["shape"]}
    policy = {"name": row["policy"], "version": row["policy_version"]}
    return {
        "action_id": 2 if denied else 1, "action": "Denied" if denied else "Allowed",
        "disposition_id": disposition, "disposition": disposition_name,
        "status_code": row["sqlstate"], "type_id": 3 if relation else 1,
        "type": "Table" if relation else "Database",
        "database": {"name": row["target"] or "unknown", "type_id": 1, "type": "Relational"},
        "table": {"name": relation} if relation else None,
        "query_info": info if query else None,
        "policy": policy if row["policy"] else None,
    }  # fmt: skip


def _login(row: Row, user: Row) -> Row:
    return {
        "action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed",
        "user": user, "service": {"name": "Trailgate"}, "session": {"uid": row["session"]},
        "is_remote": True, "logon_type_id": 3, "logon_type": "Network",
    }  # fmt: skip


def _endpoint(client: str | None) -> Row:
    host, _, port = (client or "").rpartition(":")
    if host and port.isdecimal() and int(port) < 65536:
        return {"ip": host.strip("[]"), "port": int(port), "name": None}
    return {"ip": None, "port": None, "name": client or "unknown"}


def index_lines(row: Row) -> list[list[Any]]:
    """A row's lines of the index by object."""
    told = [row[name] for name in ("time", "session", "origin", "chain", "target", "operation",
                                   "kind", "verdict", "rule", "rows")]  # fmt: skip
    objects = row["objects"] or [[None, None]]
    return [[name, name.rpartition(".")[2] if name is not None else None, access, *told]
            for name, access in objects]  # fmt: skip


INDEX = ("object", "relation", "access", "time", "session", "origin", "chain", "target",
         "operation", "kind", "verdict", "rule", "rows")  # fmt: skip
