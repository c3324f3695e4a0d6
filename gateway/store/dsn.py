# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a PostgreSQL server is and how it is reached: a libpq URI, made safe, secrets unseen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SCHEMES = ("postgresql://", "postgres://")
DEFAULTS: Mapping[str, str | int] = {
    "application_name": "trailgate",
    "client_encoding": "UTF8",
    "connect_timeout": 5,
    "gssencmode": "disable",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # Of several hosts the one that takes writes: after a failover it is another.
    "target_session_attrs": "read-write",
}
"""Unless the URI says otherwise; seconds, but the last time in ms. No wait is without an end."""


@dataclass(frozen=True, slots=True)
class Dsn:
    """A server and a database. Neither `repr` nor `shown` holds a secret."""

    conninfo: str = field(repr=False)
    shown: str
    """For messages: user, hosts and database."""
    unproven: str = ""
    """The setting by which the server need not prove that it is the one; empty if it must."""
    has_password: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI as libpq does. Raises ValueError, which never repeats a secret."""
        try:
            given = conninfo_to_dict(text)
        except psycopg.Error as error:
            # Where it is not about a parameter's name, libpq may repeat a password.
            named = str(error).startswith("invalid URI query parameter")
            cause = str(error).strip() if named else "it cannot be read"
            raise ValueError(f"no connection URI of libpq's: {cause}") from None
        local = _is_local(given)
        defaults = dict(DEFAULTS)
        if not local:
            defaults["sslmode"] = "verify-full"
            if "PGSSLROOTCERT" not in os.environ:
                defaults["sslrootcert"] = "system"
        known = {key: value for key, value in given.items() if value is not None}
        whole = {**defaults, **known}
        proven = local or whole["sslmode"] == "verify-full"
        return cls(
            make_conninfo("", **whole),
            _shown(given),
            "" if proven else f"sslmode={whole['sslmode']}",
            "password" in known,
        )


def _hosts(given: Mapping[str, Any]) -> list[str]:
    named = str(given.get("hostaddr") or given.get("host") or os.environ.get("PGHOST") or "")
    return named.split(",")


def _is_local(given: Mapping[str, Any]) -> bool:
    """Nobody can stand between: a unix socket, or an address of this machine."""
    if given.get("service") or os.environ.get("PGSERVICE"):
        return False
    return all(_is_here(host) for host in _hosts(given))


def _is_here(host: str) -> bool:
    if not host or host[0] in "/@" or host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _shown(given: Mapping[str, Any]) -> str:
    user = f"{given['user']}@" if given.get("user") else ""
    port = f":{given['port']}" if given.get("port") else ""
    where = str(given.get("host") or given.get("hostaddr") or given.get("service") or "")
    return f"postgresql://{user}{where}{port}/{given.get('dbname') or ''}"
