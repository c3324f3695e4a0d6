# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL protocol 3: names of messages, building them, and reading their fields.

Framing of a byte stream is scan.py's; what messages mean to a session is dialog.py's.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable

from gateway.model import Refusal
from gateway.protocols import WireError

# Messages of the client (PostgreSQL documentation, "Message Formats").
BIND = ord("B")
CLOSE = ord("C")
COPY_FAIL = ord("f")
DESCRIBE = ord("D")
EXECUTE = ord("E")
FLUSH = ord("H")
FUNCTION_CALL = ord("F")
PARSE = ord("P")
PASSWORD = ord("p")
QUERY = ord("Q")
SYNC = ord("S")
TERMINATE = ord("X")

# Messages of both.
COPY_DATA = ord("d")
COPY_DONE = ord("c")

# Messages of the target.
AUTHENTICATION = ord("R")
BACKEND_KEY_DATA = ord("K")
BIND_COMPLETE = ord("2")
CLOSE_COMPLETE = ord("3")
COMMAND_COMPLETE = ord("C")
COPY_BOTH_RESPONSE = ord("W")
COPY_IN_RESPONSE = ord("G")
COPY_OUT_RESPONSE = ord("H")
DATA_ROW = ord("D")
EMPTY_QUERY_RESPONSE = ord("I")
ERROR_RESPONSE = ord("E")
FUNCTION_CALL_RESPONSE = ord("V")
NEGOTIATE_PROTOCOL_VERSION = ord("v")
NO_DATA = ord("n")
NOTICE_RESPONSE = ord("N")
NOTIFICATION_RESPONSE = ord("A")
PARAMETER_DESCRIPTION = ord("t")
PARAMETER_STATUS = ord("S")
PARSE_COMPLETE = ord("1")
PORTAL_SUSPENDED = ord("s")
READY_FOR_QUERY = ord("Z")
ROW_DESCRIPTION = ord("T")

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104

# PostgreSQL documentation, appendix A; which cause gets which is interfaces' promise to clients.
_SQLSTATES = {
    "denied": "42501",
    "no_tls": "28000",
    "wrong_user": "28000",
    "bad_token": "28P01",
    "unknown_target": "3D000",
    "record": "58030",
    "target": "08006",
    "capacity": "53300",
    "drain": "57P01",
    "killed": "57P01",
    "revoked": "57P01",
    "expired": "57P01",
    "cancelled": "57014",
    "too_large": "54000",
    "protocol": "08P01",
    "not_supported": "0A000",
    "internal": "XX000",
}
_HINTS = {
    "denied": "Change the statement, or ask who owns the policy for a rule that allows it.",
    "too_large": "Send large values as parameters or by COPY; these may be of any size.",
    "record": "Nothing runs that cannot be recorded. Ask the gateway's operator.",
}

_HEAD = struct.Struct(">BI")
_INT32 = struct.Struct(">i")
_INT16 = struct.Struct(">h")

SYNC_MESSAGE = b"S\x00\x00\x00\x04"
FLUSH_MESSAGE = b"H\x00\x00\x00\x04"
TERMINATE_MESSAGE = b"X\x00\x00\x00\x04"


class TooLarge(WireError):
    """A message whose text must be parsed is over the cap (54000, program_limit_exceeded)."""


# --- building ------------------------------------------------------------------------------------


def message(kind: int, body: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(body) + 4) + body


def cstring(text: str | bytes) -> bytes:
    """Zero-terminated text. A zero inside would end it early, so it is an error."""
    raw = text.encode() if isinstance(text, str) else text
    if b"\0" in raw:
        raise WireError("a zero byte cannot stand inside a PostgreSQL string")
    return raw + b"\0"


def _shown(text: str) -> bytes:
    return text.replace("\0", "\\0").encode("utf-8", "replace") + b"\0"


def _report(kind: int, fields: Iterable[tuple[bytes, str]]) -> bytes:
    return message(kind, b"".join(code + _shown(text) for code, text in fields if text) + b"\0")


def error_response(
    sqlstate: str, text: str, *, severity: str = "ERROR", detail: str = "", hint: str = ""
) -> bytes:
    """ErrorResponse; `severity` is ERROR, FATAL or PANIC."""
    return _report(
        ERROR_RESPONSE,
        (
            (b"S", severity),
            (b"V", severity),
            (b"C", sqlstate),
            (b"M", text),
            (b"D", detail),
            (b"H", hint),
        ),
    )


def sqlstate_of(refusal: Refusal) -> str:
    """The SQLSTATE that says `refusal.code` to a client of PostgreSQL."""
    return _SQLSTATES.get(refusal.code, "58000")


def refusal_error(refusal: Refusal, severity: str = "ERROR") -> bytes:
    """A refusal of the gateway as ErrorResponse; its detail is an object that an agent can read."""
    return error_response(
        sqlstate_of(refusal),
        _refusal_text(refusal),
        severity=severity,
        detail=_refusal_object(refusal),
        hint=refusal.hint or _HINTS.get(refusal.code, ""),
    )


def _refusal_text(refusal: Refusal) -> str:
    if refusal.kind == "pending":
        return f"trailgate: approval {refusal.approval} pending"
    if refusal.code == "denied":
        rule = "/".join(part for part in (refusal.policy, refusal.rule) if part)
        by = f" by {rule}" if rule else ""
        return f"trailgate: denied{by}: {refusal.reason}"
    return f"trailgate: {refusal.reason}"


def _refusal_object(refusal: Refusal) -> str:
    members = {
        "trailgate": refusal.kind,
        "policy": refusal.policy or None,
        "rule": refusal.rule or None,
        "reason": refusal.reason,
        "session": refusal.session or None,
        "operation": refusal.operation or None,
        "approval": refusal.approval or None,
        "expires": refusal.expires or None,
        "url": refusal.url or None,
    }
    return json.dumps(members, ensure_ascii=False)


def notice_response(severity: str, sqlstate: str, text: str, *, hint: str = "") -> bytes:
    return _report(
        NOTICE_RESPONSE,
        ((b"S", severity), (b"V", severity), (b"C", sqlstate), (b"M", text), (b"H", hint)),
    )


def ready_for_query(state: str) -> bytes:
    """`state` is I (idle), T (in a transaction) or E (in a failed one)."""
    return message(READY_FOR_QUERY, state.encode("ascii"))


def parameter_status(name: str, value: str) -> bytes:
    return message(PARAMETER_STATUS, cstring(name) + cstring(value))


def backend_key_data(process: int, key: bytes) -> bytes:
    """In protocol 3.0 `key` is exactly 4 bytes; in 3.2 it is 4 to 256."""
    return message(BACKEND_KEY_DATA, struct.pack(">I", process & 0xFFFFFFFF) + key)


def authentication(code: int, rest: bytes = b"") -> bytes:
    """AuthenticationOk is code 0, CleartextPassword 3, MD5Password 5, SASL 10, 11 and 12."""
    return message(AUTHENTICATION, _INT32.pack(code) + rest)


def authentication_ok() -> bytes:
    return authentication(0)


def authentication_cleartext_password() -> bytes:
    return authentication(3)


def password_message(body: bytes) -> bytes:
    """PasswordMessage, SASLInitialResponse and SASLResponse share one type."""
    return message(PASSWORD, body)


def ssl_request() -> bytes:
    return struct.pack(">II", 8, SSL_REQUEST)


def negotiate_protocol_version(newest: int, unknown_options: Iterable[str]) -> bytes:
    names = [cstring(name) for name in unknown_options]
    body = _INT32.pack(newest) + _INT32.pack(len(names)) + b"".join(names)
    return message(NEGOTIATE_PROTOCOL_VERSION, body)


def startup_message(parameters: Iterable[tuple[str, str]], version: int = PROTOCOL_3_0) -> bytes:
    body = b"".join(cstring(name) + cstring(value) for name, value in parameters) + b"\0"
    return struct.pack(">II", len(body) + 8, version) + body


def cancel_request(process: int, key: bytes) -> bytes:
    return struct.pack(">III", 12 + len(key), CANCEL_REQUEST, process & 0xFFFFFFFF) + key


def execute(portal: bytes, rows: int = 0) -> bytes:
    return message(EXECUTE, cstring(portal) + _INT32.pack(rows))


def describe_portal(portal: bytes) -> bytes:
    """Describe of a portal: its columns, with the formats that it was bound with."""
    return message(DESCRIBE, b"P" + cstring(portal))


# --- reading -------------------------------------------------------------------------------------


def read_cstring(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """The zero-terminated bytes at `at`, and where the next field begins."""
    stop = data.find(b"\0", at, end)
    if stop < 0:
        raise WireError("a string is not terminated inside its message")
    return data[at:stop], stop + 1


def read_int16(data: bytes, at: int, end: int) -> int:
    if at + 2 > end:
        raise WireError("a message ends inside a number")
    return int(_INT16.unpack_from(data, at)[0])


def read_int32(data: bytes, at: int, end: int) -> int:
    if at + 4 > end:
        raise WireError("a message ends inside a number")
    return int(_INT32.unpack_from(data, at)[0])


def only_cstring(data: bytes, at: int, end: int) -> bytes:
    """The body is one string and nothing behind it (Query, CommandComplete, CopyFail)."""
    text, after = read_cstring(data, at, end)
    if after != end:
        raise WireError("bytes stand behind the end of a message's text")
    return text


def read_fields(data: bytes, at: int, end: int) -> dict[str, str]:
    """Fields of an ErrorResponse or NoticeResponse by their letter (C: SQLSTATE, M: message)."""
    fields: dict[str, str] = {}
    while at < end:
        code = data[at]
        if code == 0:
            return fields
        value, at = read_cstring(data, at + 1, end)
        fields[chr(code)] = value.decode("utf-8", "replace")
    raise WireError("an error's fields are not terminated")


def read_parameter(data: bytes, at: int, end: int) -> tuple[str, str]:
    """Name and value of a ParameterStatus."""
    name, at = read_cstring(data, at, end)
    value, at = read_cstring(data, at, end)
    if at != end:
        raise WireError("bytes stand behind the end of a ParameterStatus")
    return name.decode("utf-8", "replace"), value.decode("utf-8", "replace")


def is_fatal(fields: dict[str, str]) -> bool:
    """`V` is never translated (PostgreSQL 9.6 and later); `S` may be."""
    return fields.get("V", fields.get("S", "")) in ("FATAL", "PANIC")
