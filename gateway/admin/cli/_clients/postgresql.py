# SPDX-License-Identifier: GPL-3.0-or-later
"""libpq: its variables, its service file and its password file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.admin.cli._clients import Access, Configuration, Target
from gateway.admin.cli.token import write_private

PASSFILE = "pgpass"
SERVICES = "pg_service.conf"


class Libpq:
    protocol = "postgresql"
    name = "pg"
    program = "psql"
    never_inherited = (
        "PGPASSWORD",
        "PGPASSFILE",
        "PGSERVICE",
        "PGSERVICEFILE",
        "PGHOSTADDR",
        "PGSSLCERT",
        "PGSSLKEY",
        "PGREQUIREAUTH",
        "PGCHANNELBINDING",
    )
    place = ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT")

    def is_at(self, env: Mapping[str, str], target: Target) -> bool:
        there = str(target["host"]), str(target["port"])
        return (env.get("PGHOST"), env.get("PGPORT")) == there

    def environment(
        self, targets: Sequence[Target], chosen: Target | None, access: Access
    ) -> dict[str, str]:
        passfile = access.folder / PASSFILE
        write_private(passfile, "".join(_pgpass_line(one, access.token) for one in targets))
        env = {"PGPASSFILE": str(passfile)}
        if chosen is not None:
            found = _parameters(chosen, access.ca_path)
            env |= {f"PG{_VARIABLES.get(key, key.upper())}": value for key, value in found.items()}
        return env

    def configure(self, targets: Sequence[Target], access: Access) -> Configuration:
        services = access.folder / SERVICES
        passfile = access.folder / PASSFILE
        sections = [_section(one, access.ca_path, str(passfile)) for one in targets]
        return Configuration(
            files={
                SERVICES: "\n".join(sections),
                PASSFILE: "".join(_pgpass_line(one, access.token) for one in targets),
            },
            environment={"PGSERVICEFILE": str(services)},
            usage=[f"psql service={one['name']}" for one in targets],
        )


_VARIABLES = {"dbname": "DATABASE"}


def _parameters(target: Target, ca_path: str | None) -> dict[str, str]:
    """libpq's keywords; what the target leaves open is left out."""
    tls = target.get("tls", True)
    found = {
        "host": str(target["host"]),
        "port": str(target["port"]),
        "user": str(target.get("user") or ""),
        "dbname": str(target.get("database") or ""),
        "sslmode": "verify-full" if tls else "disable",
        "sslrootcert": (ca_path or "system") if tls else "",
    }
    return {key: value for key, value in found.items() if value}


def _section(target: Target, ca_path: str | None, passfile: str) -> str:
    """A service file has no quotes: a value is all that follows the equals sign."""
    found = {**_parameters(target, ca_path), "passfile": passfile}
    return "".join([f"[{target['name']}]\n", *(f"{key}={value}\n" for key, value in found.items())])


def _pgpass_line(target: Target, token: str) -> str:
    host = str(target["host"]).replace("\\", "\\\\").replace(":", "\\:")
    return f"{host}:{target['port']}:*:*:{token}\n"


CLIENT = Libpq()
