# SPDX-License-Identifier: GPL-3.0-or-later
"""The columns of the lake: OCSF's own by class, `unmapped` with ours, and the index by object."""

from __future__ import annotations

from typing import Any

from gateway.ship.exports.ocsf import DATASTORE

TOUCHED = "touched_object"
"""The folder of the index: a row an operation and object, sorted by object."""


class LakeFailed(Exception):
    """The lake cannot be written or read; `cure` says what to do."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


def lake_module(name: str) -> Any:
    """`pyarrow`, `pyarrow.parquet` or `duckdb`. Raises LakeFailed where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        cure = "pip install 'trailgate[lake]'"
        raise LakeFailed(f"{name.partition('.')[0]} is not installed", cure) from error


def unmapped_type() -> Any:
    """Every member of an activity that is no attribute of OCSF's by the same name and meaning."""
    pa = lake_module("pyarrow")
    text, number = pa.string(), pa.int64()
    objects = pa.list_(pa.struct([("name", text), ("access", text)]))
    return pa.struct(
        [
            *(("session", text), ("operation", number), ("frame", number), ("leaf", number)),
            *(("node", text), ("target", text), ("protocol", text), ("user", text)),
            *(("client", text), ("origin", text), ("groups", pa.list_(text))),
            *(("chain", pa.list_(text)), ("grant", text), ("ancestors", pa.list_(text))),
            *(("root_grant", text), ("kind", text), ("objects", objects), ("statement", text)),
            *(("text", text), ("shape", text), ("verdict", text), ("policy", text)),
            *(("policy_version", text), ("rule", text), ("reason", text), ("status", text)),
            *(("tag", text), ("rows", number), ("bytes", number), ("sqlstate", text)),
        ]
    )


def class_schema(class_uid: int) -> Any:
    """The attributes of OCSF 1.8 that events of the class have; `time` is a TIMESTAMP here."""
    pa = lake_module("pyarrow")
    text, small = pa.string(), pa.int32()
    user = pa.struct([("name", text), ("groups", pa.list_(pa.struct([("name", text)])))])
    session = pa.struct([("uid", text)])
    product = pa.struct([("name", text), ("vendor_name", text)])
    fields = [
        *(("class_uid", small), ("class_name", text), ("category_uid", small)),
        *(("category_name", text), ("activity_id", small), ("activity_name", text)),
        *(("type_uid", pa.int64()), ("type_name", text), ("severity_id", small)),
        *(("severity", text), ("status_id", small), ("status", text), ("status_detail", text)),
        ("time", pa.timestamp("us", tz="UTC")),
        ("metadata", pa.struct([
            ("version", text), ("profiles", pa.list_(text)), ("product", product), ("uid", text),
            ("correlation_uid", text), ("log_name", text),
        ])),
        ("actor", pa.struct([("user", user), ("session", session), ("app_name", text)])),
        ("src_endpoint", pa.struct([("ip", text), ("port", small), ("name", text)])),
        ("dst_endpoint", pa.struct([("name", text), ("svc_name", text)])),
        *(("action_id", small), ("action", text), ("disposition_id", small)),
        ("disposition", text),
    ]  # fmt: skip
    if class_uid == DATASTORE:
        database = pa.struct([("name", text), ("type_id", small), ("type", text)])
        fields += [
            *(("status_code", text), ("type_id", small), ("type", text), ("database", database)),
            ("table", pa.struct([("name", text)])),
            ("query_info", pa.struct([("query_string", text), ("name", text), ("uid", text)])),
            ("policy", pa.struct([("name", text), ("version", text)])),
        ]
    else:
        fields += [
            *(("user", user), ("service", pa.struct([("name", text)])), ("session", session)),
            *(("is_remote", pa.bool_()), ("logon_type_id", small), ("logon_type", text)),
        ]
    return pa.schema([*fields, ("unmapped", unmapped_type())])


def touched_schema() -> Any:
    """The index by object: what `audit who` prints, in the order of the objects' names."""
    pa = lake_module("pyarrow")
    text, number = pa.string(), pa.int64()
    return pa.schema(
        [
            ("object", text),
            ("relation", text),
            ("access", text),
            ("time", pa.timestamp("us", tz="UTC")),
            *(("session", text), ("origin", text), ("chain", pa.list_(text)), ("target", text)),
            *(("operation", number), ("kind", text), ("verdict", text), ("rule", text)),
            ("rows", number),
        ]
    )
