# SPDX-License-Identifier: GPL-3.0-or-later
"""An activity as an event of OCSF 1.8: Datastore Activity (6005) and Authentication (3002).

Both with the profile `security_control`. What OCSF has no attribute for stands in `unmapped`, with
every member of the activity under its own name: the chain of agents, grants, objects, counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Event = dict[str, Any]
VERSION = "1.8.0"
DATASTORE, AUTHENTICATION = 6005, 3002
CLASSES = {DATASTORE: "datastore_activity", AUTHENTICATION: "authentication"}
"""Classes by number, and the name of each one's folder in the lake."""
_CLASS_NAMES = {DATASTORE: "Datastore Activity", AUTHENTICATION: "Authentication"}
_CATEGORIES = {
    DATASTORE: (6, "Application Activity"),
    AUTHENTICATION: (3, "Identity & Access Management"),
}
_ACTIVITIES = {
    DATASTORE: {
        2: "Update", 4: "Query", 5: "Write", 6: "Create", 7: "Delete", 99: "Other",
    },
    AUTHENTICATION: {1: "Logon", 2: "Logoff"},
}  # fmt: skip
LOGON, LOGOFF = 1, 2
_BY_KIND = {
    "select": 4, "declare": 4, "fetch": 4, "insert": 5, "merge": 5, "copy": 5, "update": 2,
    "alter": 2, "delete": 7, "truncate": 7, "drop": 7, "create": 6,
}  # fmt: skip
_STATUS = {0: "Unknown", 1: "Success", 2: "Failure"}
_DISPOSITIONS = {"allow": (1, "Allowed"), "deny": (2, "Blocked"), "hold": (14, "Delayed"),
                 "would_deny": (17, "Logged")}  # fmt: skip
_REFUSED = ("deny", "hold")


def activity_of(kinds: list[str]) -> int:
    """OCSF's activity of a text with statements of these kinds: that of the first one that has one.

    Writing counts more than reading.
    """
    found = [_BY_KIND.get(kind, _BY_KIND.get(kind.partition("_")[0], 99)) for kind in kinds]
    known = [one for one in found if one not in (4, 99)] or [one for one in found if one != 99]
    return known[0] if known else 99


def event(activity: Mapping[str, Any]) -> Event:
    """The event with every attribute that is known; its time in milliseconds, as OCSF has it."""
    told = {**attributes(activity), "time": milliseconds(activity["time"])}
    return {name: _known(value) for name, value in told.items() if value is not None}


def attributes(activity: Mapping[str, Any]) -> Event:
    """The event with every attribute that we have; None: not known. Its time as a datetime."""
    build = _datastore if activity["class_uid"] == DATASTORE else _authentication
    return {**_base(activity), **build(activity), "unmapped": _unmapped(activity)}


def _base(one: Mapping[str, Any]) -> Event:
    class_uid, activity = one["class_uid"], one["activity_id"]
    category, category_name = _CATEGORIES[class_uid]
    name = _ACTIVITIES[class_uid].get(activity, "Other")
    concern = one.get("verdict") in ("deny", "hold", "would_deny")
    return {
        "class_uid": class_uid,
        "class_name": _CLASS_NAMES[class_uid],
        "category_uid": category,
        "category_name": category_name,
        "activity_id": activity,
        "activity_name": name,
        "type_uid": class_uid * 100 + activity,
        "type_name": f"{_CLASS_NAMES[class_uid]}: {name}",
        "severity_id": 3 if concern else 1,
        "severity": "Medium" if concern else "Informational",
        "status_id": one["status_id"],
        "status": _STATUS[one["status_id"]],
        "status_detail": one.get("reason"),
        "time": one["time"],
        "metadata": {
            "version": VERSION,
            "profiles": ["security_control"],
            "product": {"name": "Trailgate", "vendor_name": "Trailgate"},
            "uid": _uid(one),
            "correlation_uid": one["session"],
            "log_name": one["node"],
        },
        "actor": {
            "user": _user(one),
            "session": {"uid": one["session"]},
            "app_name": (one["chain"] or [None])[-1],
        },
        "src_endpoint": _endpoint(one["client"]),
        "dst_endpoint": {"name": one["target"] or "unknown", "svc_name": one["protocol"]},
    }


def _datastore(one: Mapping[str, Any]) -> Event:
    verdict = one.get("verdict")
    refused = verdict in _REFUSED
    disposition, disposition_name = _DISPOSITIONS.get(str(verdict), (0, "Unknown"))
    relation = next((each["name"] for each in one["objects"] if each["access"] != "call"), None)
    query = one.get("text") or one["statement"]
    return {
        "action_id": 2 if refused else 1,
        "action": "Denied" if refused else "Allowed",
        "disposition_id": disposition,
        "disposition": disposition_name,
        "status_code": one["sqlstate"],
        "type_id": 3 if relation else 1,
        "type": "Table" if relation else "Database",
        "database": {"name": one["target"] or "unknown", "type_id": 1, "type": "Relational"},
        "table": {"name": relation} if relation else None,
        "query_info": {"query_string": query, "name": one["kind"] or "query", "uid": one["shape"]}
        if query
        else None,
        "policy": {"name": one["policy"], "version": one["policy_version"]}
        if one["policy"]
        else None,
    }


def _authentication(one: Mapping[str, Any]) -> Event:
    return {
        "action_id": 1,
        "action": "Allowed",
        "disposition_id": 1,
        "disposition": "Allowed",
        "user": _user(one),
        "service": {"name": "Trailgate"},
        "session": {"uid": one["session"]},
        "is_remote": True,
        "logon_type_id": 3,
        "logon_type": "Network",
    }


def _uid(one: Mapping[str, Any]) -> str:
    """Of the event: the session, and in it the operation's frame or the kind of the login."""
    if one["class_uid"] == AUTHENTICATION:
        return f"{one['session']}/{one['kind']}"
    return f"{one['session']}/{one['operation']}/{one['frame']}"


def _user(one: Mapping[str, Any]) -> Event:
    return {
        "name": one["origin"] or "unknown",
        "groups": [{"name": name} for name in one["groups"]] or None,
    }


def _endpoint(client: str | None) -> Event:
    """Who connected: `ADDRESS:PORT`, an IPv6 address in brackets or not."""
    host, _, port = (client or "").rpartition(":")
    if host and port.isdecimal() and int(port) < 65536:
        return {"ip": host.strip("[]"), "port": int(port)}
    return {"name": client or "unknown"}


def _unmapped(one: Mapping[str, Any]) -> Event:
    return {name: value for name, value in one.items() if name not in _MAPPED}


_MAPPED = frozenset({"class_uid", "category_uid", "type_uid", "activity_id", "severity_id",
                     "status_id", "action_id", "time"})  # fmt: skip


def milliseconds(time: datetime) -> int:
    """Since the Unix epoch."""
    moment = time.astimezone(UTC)
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


def _known(value: Any) -> Any:
    """Without members that are not known."""
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items() if one is not None}
    return [_known(one) for one in value] if isinstance(value, list) else value
