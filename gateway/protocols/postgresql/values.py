# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of a recorded session as people and JSON read them: PostgreSQL's own text, or base64."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
import struct
import uuid
from collections.abc import Callable

Value = str | dict[str, str] | None
"""Text, `{"base64": ...}` where there is no faithful text, or None for SQL NULL."""

BYTEA = 17
_UNIX_DAYS = datetime.date(2000, 1, 1).toordinal()
_MICROSECONDS_A_DAY = 86_400_000_000

_CODECS = {
    "UTF8": "utf-8",
    "SQL_ASCII": "utf-8",
    "LATIN1": "latin-1",
    "LATIN2": "iso8859-2",
    "LATIN9": "iso8859-15",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "KOI8R": "koi8-r",
    "SJIS": "shift_jis",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "GBK": "gbk",
    "GB18030": "gb18030",
    "BIG5": "big5",
}


def in_base64(raw: bytes) -> dict[str, str]:
    """Bytes that have no text."""
    return {"base64": base64.b64encode(raw).decode("ascii")}


def text_or_base64(raw: bytes, encoding: str = "UTF8") -> Value:
    """`raw` as text in the client's encoding, else as base64."""
    try:
        return raw.decode(_CODECS.get(encoding.upper(), "utf-8"))
    except UnicodeDecodeError:
        return in_base64(raw)


def decoded(raw: bytes | None, oid: int, form: int, encoding: str = "UTF8") -> Value:
    """One field or parameter. `oid`: its type, 0 if unknown; `form`: 0 text, 1 binary."""
    if raw is None:
        return None
    if oid == BYTEA:
        return in_base64(raw if form else _bytea_of_text(raw))
    if not form:
        return text_or_base64(raw, encoding)
    if oid in _TEXT_LIKE:
        return text_or_base64(raw, encoding)
    try:
        if oid in _ARRAYS:
            return _array(raw, _ARRAYS[oid], encoding)
        decoder = _BINARY.get(oid)
        return decoder(raw) if decoder else in_base64(raw)
    except (struct.error, ValueError, IndexError, OverflowError):
        return in_base64(raw)


def _bytea_of_text(raw: bytes) -> bytes:
    """Hex form, or the older escape form (`bytea_output`)."""
    if raw.startswith(b"\\x"):
        try:
            return bytes.fromhex(raw[2:].decode("ascii"))
        except ValueError:
            return raw
    return _unescaped(raw)


def _unescaped(raw: bytes) -> bytes:
    head, *parts = raw.replace(b"\\\\", b"\\134").split(b"\\")
    try:
        return head + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in parts)
    except ValueError:
        return raw


def _integer(layout: str) -> Callable[[bytes], str]:
    packed = struct.Struct(layout)
    return lambda raw: str(packed.unpack(raw)[0])


def _boolean(raw: bytes) -> str:
    return "t" if struct.unpack("!?", raw)[0] else "f"


def _float4(raw: bytes) -> str:
    (value,) = struct.unpack("!f", raw)
    for digits in range(1, 10):
        text = f"{value:.{digits - 1}e}"
        if not math.isfinite(value) or struct.pack("!f", float(text)) == raw:
            break
    return _shortest(value, text, 6)


def _float8(raw: bytes) -> str:
    (value,) = struct.unpack("!d", raw)
    if not value:
        return "-0" if math.copysign(1, value) < 0 else "0"
    text = f"{decimal.Decimal(repr(value)):e}" if math.isfinite(value) else ""
    return _shortest(value, text, 15)


def _shortest(value: float, text: str, most: int) -> str:
    """As the server prints floats: fixed notation for exponents from -4 to below `most`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "-Infinity" if value < 0 else "Infinity"
    sign = "-" if text.startswith("-") else ""
    mantissa, exponent = text.lstrip("-").split("e")
    digits = mantissa.replace(".", "").rstrip("0") or "0"
    power = int(exponent)
    if -4 <= power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    if 0 <= power < most:
        whole, fraction = digits[: power + 1].ljust(power + 1, "0"), digits[power + 1 :]
        return f"{sign}{whole}.{fraction}" if fraction else sign + whole
    fraction = f".{digits[1:]}" if digits[1:] else ""
    return f"{sign}{digits[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _numeric(raw: bytes) -> str:
    """numeric_send: base-10000 digits with a weight, sign and display scale."""
    count, weight, sign, scale = struct.unpack_from("!HhHH", raw)
    if sign in (0xC000, 0xD000, 0xF000):
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}[sign]
    groups = struct.unpack(f"!{count}H", raw[8:])
    if any(group > 9999 for group in groups):
        raise ValueError("numeric digit out of range")
    whole = "".join(
        f"{groups[i]:04d}" if i < count else "0000" for i in range(max(weight + 1, 0))
    ).lstrip("0")
    first = weight + 1
    wanted = (scale + 3) // 4
    fraction = "".join(
        f"{groups[i]:04d}" if 0 <= i < count else "0000" for i in range(first, first + wanted)
    )[:scale]
    text = (whole or "0") + (f".{fraction}" if scale else "")
    return f"-{text}" if sign == 0x4000 else text


def _date_text(days: int) -> str:
    ordinal = days + _UNIX_DAYS
    if ordinal >= 1:
        return datetime.date.fromordinal(ordinal).isoformat()
    raise ValueError("before the year 1")


def _date(raw: bytes) -> str:
    (days,) = struct.unpack("!i", raw)
    if days in (2**31 - 1, -(2**31)):
        return "infinity" if days > 0 else "-infinity"
    return _date_text(days)


def _timestamp(raw: bytes) -> str:
    (microseconds,) = struct.unpack("!q", raw)
    if microseconds in (2**63 - 1, -(2**63)):
        return "infinity" if microseconds > 0 else "-infinity"
    days, rest = divmod(microseconds, _MICROSECONDS_A_DAY)
    return f"{_date_text(days)} {_clock(rest)}"


def _timestamptz(raw: bytes) -> str:
    text = _timestamp(raw)
    return text if text.endswith("infinity") else text + "+00"


def _time(raw: bytes) -> str:
    (microseconds,) = struct.unpack("!q", raw)
    if not 0 <= microseconds <= _MICROSECONDS_A_DAY:
        raise ValueError("time out of range")
    return _clock(microseconds)


def _clock(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def _uuid(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw))


def _jsonb(raw: bytes) -> str:
    if raw[:1] != b"\x01":
        raise ValueError("unknown version of jsonb")
    return raw[1:].decode("utf-8")


def _array(raw: bytes, element: int, encoding: str) -> Value:
    """array_recv's form, printed as the server prints arrays."""
    dimensions, _, _ = struct.unpack_from("!iiI", raw)
    if not 0 <= dimensions <= 6:
        raise ValueError("too many dimensions")
    if not dimensions:
        return "{}"
    shape = [struct.unpack_from("!ii", raw, 12 + 8 * i) for i in range(dimensions)]
    elements = _elements(raw, 12 + 8 * dimensions, element, encoding)
    if math.prod(length for length, _ in shape) != len(elements):
        raise ValueError("an array of another size than it says")
    for length, _ in reversed(shape):
        if length < 1:
            raise ValueError("an empty dimension")
        elements = [
            "{" + ",".join(elements[i : i + length]) + "}" for i in range(0, len(elements), length)
        ]
    bounds = "".join(f"[{lower}:{lower + length - 1}]" for length, lower in shape)
    return (f"{bounds}=" if any(lower != 1 for _, lower in shape) else "") + elements[0]


def _elements(raw: bytes, position: int, element: int, encoding: str) -> list[str]:
    found: list[str] = []
    while position < len(raw):
        (length,) = struct.unpack_from("!i", raw, position)
        position += 4
        if length < 0:
            found.append("NULL")
            continue
        if position + length > len(raw):
            raise ValueError("a cut element")
        field = raw[position : position + length]
        value = "\\x" + field.hex() if element == BYTEA else decoded(field, element, 1, encoding)
        if not isinstance(value, str):
            raise ValueError("an element without text")
        found.append(_quoted(value))
        position += length
    return found


def _quoted(text: str) -> str:
    plain = text and text.upper() != "NULL" and not any(c in '{},"\\ \t\n\r\v\f' for c in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_TEXT_LIKE = frozenset({18, 19, 25, 114, 142, 705, 1042, 1043})
_BINARY: dict[int, Callable[[bytes], str]] = {
    16: _boolean,
    20: _integer("!q"),
    21: _integer("!h"),
    23: _integer("!i"),
    26: _integer("!I"),
    700: _float4,
    701: _float8,
    1082: _date,
    1083: _time,
    1114: _timestamp,
    1184: _timestamptz,
    1700: _numeric,
    2205: _integer("!I"),
    2206: _integer("!I"),
    2278: lambda raw: "",
    2950: _uuid,
    3802: _jsonb,
}
_ARRAYS = {
    199: 114,
    1000: 16,
    1001: 17,
    1003: 19,
    1005: 21,
    1007: 23,
    1009: 25,
    1014: 1042,
    1015: 1043,
    1016: 20,
    1021: 700,
    1022: 701,
    1028: 26,
    1115: 1114,
    1182: 1082,
    1183: 1083,
    1185: 1184,
    1231: 1700,
    2951: 2950,
    3807: 3802,
}
"""Array type: type of its elements. The numbers are pg_type's own, fixed for built-in types."""
