# SPDX-License-Identifier: GPL-3.0-or-later
"""What a line of the server's log says: of which backend, and what its client did."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import Enum


class BadLog(Exception):
    """The log cannot be read as it was said to be written; the text says why."""


class Kind(Enum):
    """What a client did, as the server saw it."""

    RECEIVED = "a link came in"
    PROVED = "somebody proved who it is, and is not let in yet"
    LOGIN = "somebody was let in"
    REFUSED = "somebody was not let in"
    STATEMENT = "something was run"
    GONE = "a link ended"
    OTHER = "anything else"


@dataclass(frozen=True, slots=True)
class Entry:
    """`at`, `started`: seconds since the Unix epoch by the server's clock; None: not told.

    `client`: the address that the server saw; `session_hint`: the start of the application name.
    `of_client`: the line is of a client's backend, which has told who it is.
    """

    line: int
    at: float
    pid: int
    kind: Kind
    text: str
    started: float | None = None
    user: str | None = None
    client: str | None = None
    application: str | None = None
    of_client: bool = False
    of_error: bool = False
    """The statement is told by an error: it may have been logged when it began, too."""


# The server's words, of src/backend/tcop/postgres.c and src/backend/utils/init/postinit.c.
_STATEMENT = re.compile(
    r"(?:duration: [0-9.]+ ms  )?"
    r"(?:statement: |(?:parse|bind) \S+: |execute (?:fetch from )?[^:]*: |fastpath function call: )"
    r"(?P<text>.*)",
    re.DOTALL,
)
_REPLICATION = re.compile(r"received replication command: (?P<text>.*)", re.DOTALL)
_LOGIN = re.compile(r"(?:replication )?connection authorized: ")
_RECEIVED = re.compile(r"connection received: host=(?P<host>\S+)(?: port=(?P<port>\d+))?")
_LOGIN_NAME = re.compile(r"application_name=(.*?)(?: SSL enabled| GSS | \(|$)")
_LOGIN_USER = re.compile(r"connection authorized: user=(.*?)(?: database=| application_name=|$)")
_PROVED = "connection authenticated: "
_GONE = "disconnection: session time: "
_NOT_IN = (
    *("password authentication failed", "no pg_hba.conf entry", "pg_hba.conf rejects"),
    *("sorry, too many clients", "remaining connection slots", "the database system is"),
    *("too many connections for ", "canceling authentication", "unsupported frontend protocol"),
    *("invalid length of startup packet", "no PostgreSQL user name", "connection requires a valid"),
)
_NOT_IN_PATTERN = re.compile(
    r'(?:database|role) ".*" (?:does not exist|is not permitted to log in)|'
    r'.* authentication failed for user "|'
    r"permission denied for database "
)
_NOT_IN_STATES = ("28", "3D", "53", "57P03", "08P01")


def told_of(message: str, severity: str, sqlstate: str = "") -> tuple[Kind, str]:
    """What a message tells, and the text of it."""
    if severity in ("LOG", "INFO"):
        return _of_log(message)
    if severity == "FATAL":
        by_state = bool(sqlstate) and sqlstate.startswith(_NOT_IN_STATES)
        by_words = message.startswith(_NOT_IN) or bool(_NOT_IN_PATTERN.match(message))
        return (Kind.REFUSED if by_state or by_words else Kind.OTHER), message
    return Kind.OTHER, message


def _of_log(message: str) -> tuple[Kind, str]:
    found = _STATEMENT.match(message) or _REPLICATION.match(message)
    if found is not None:
        return Kind.STATEMENT, found["text"]
    if _LOGIN.match(message):
        return Kind.LOGIN, message
    if _RECEIVED.match(message):
        return Kind.RECEIVED, message
    if message.startswith(_PROVED):
        return Kind.PROVED, message
    return (Kind.GONE if message.startswith(_GONE) else Kind.OTHER), message


def application_of(message: str) -> str | None:
    """The application name that a `connection authorized` tells."""
    found = _LOGIN_NAME.search(message)
    return found[1] if found else None


def user_of(message: str) -> str | None:
    """The user that a `connection authorized` tells."""
    found = _LOGIN_USER.search(message)
    return found[1] if found else None


def client_of(message: str) -> str | None:
    """The address that a `connection received` tells."""
    found = _RECEIVED.match(message)
    if found is None:
        return None
    return f"{found['host']}:{found['port']}" if found["port"] else found["host"]


_OFFSET = re.compile(r"[+-]\d{2}(?::?\d{2}){0,2}")
_UTC_NAMES = frozenset({"UTC", "GMT", "Z", "UCT", "Etc/UTC"})


def instant(text: str, zone: tzinfo | None) -> float:
    """`2026-11-24 12:00:00.123 UTC`, or with an offset, or in `zone`'s own abbreviation.

    Raises BadLog where it is no time, or the abbreviation means nothing without `zone`.
    """
    date, _, name = text.rpartition(" ")
    try:
        plain = datetime.fromisoformat(date)
    except ValueError:
        raise BadLog(f"{text[:80]!r} is no time of PostgreSQL's") from None
    if name in _UTC_NAMES:
        return plain.replace(tzinfo=UTC).timestamp()
    if _OFFSET.fullmatch(name):
        try:
            return datetime.fromisoformat(date + name).timestamp()
        except ValueError:
            raise BadLog(f"{text[:80]!r} is no time of PostgreSQL's") from None
    if zone is None:
        raise BadLog(f"{name[:20]!r} does not say which time zone it is: name it by --timezone")
    for fold in (0, 1):
        one = plain.replace(tzinfo=zone, fold=fold)
        if one.tzname() == name:
            return one.timestamp()
    raise BadLog(f"{text[:80]!r} is no time of that time zone: is another one set on the server?")
