# SPDX-License-Identifier: GPL-3.0-or-later
"""What `try` and `demo` share: settings of an embedded gateway, and files for native clients."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import quote as url_quote

from gateway.certificates import write_private
from gateway.config import (
    EvidenceSettings,
    LimitSettings,
    NodeName,
    ObjectName,
    PublicKey,
    RecipientObject,
    Settings,
)
from gateway.credentials.master import make_key_file
from gateway.record.recipients import make_recipient


def data_folder(given: Path | None, purpose: str) -> Path:
    """The folder given, or a new one; only its owner may look into it. Raises OSError."""
    if given is None:
        return Path(tempfile.mkdtemp(prefix=f"trailgate-{purpose}-"))
    given.mkdir(mode=0o700, parents=True, exist_ok=True)
    return given.absolute()


def embedded_settings(data: Path, node: str, *, drain_seconds: float = 2.0) -> Settings:
    """Everything in one folder, no listener but the targets' own and a loopback API."""
    return Settings(
        data=data,
        node=NodeName.parse(node),
        evidence=EvidenceSettings(),
        limits=LimitSettings(drain_seconds=drain_seconds),
    )


def master_key(data: Path) -> None:
    """DATA/master.key of a new folder: of one that it makes itself, the gateway warns.

    Beside a store there is one, or it is lost, which the gateway must see. Raises OSError.
    """
    if not (data / "state.sqlite").exists():
        with suppress(FileExistsError):
            make_key_file(data / "master.key")


def auditor(data: Path) -> RecipientObject:
    """The key pair in DATA/auditor (0700): made at first use, then kept."""
    folder = data / "auditor"
    if not (folder / "identity").exists():
        make_recipient(folder)
    public = (folder / "recipient.pub").read_text("utf-8").strip()
    return RecipientObject(
        ObjectName("auditor"), PublicKey(public, f"file:{folder / 'recipient.pub'}")
    )


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """How native PostgreSQL clients reach one target with one token."""

    name: str
    port: int
    user: str
    database: str
    ca_path: Path
    pgpass: Path

    @classmethod
    def written(
        cls, folder: Path, name: str, port: int, user: str, database: str, token: str, ca: Path
    ) -> ClientFiles:
        """Write the password file (0600). Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pgpass = folder / f"{name}.pgpass"
        lines = [f"{host}:{port}:*:*:{token}\n" for host in ("127.0.0.1", "localhost")]
        write_private(pgpass, "".join(lines).encode())
        return cls(name, port, user, database, ca, pgpass)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.ca_path),
            "PGPASSFILE": str(self.pgpass),
        }

    @property
    def command(self) -> str:
        """A line for a shell; the token is not in it."""
        words = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "user": self.user,
            "dbname": self.database,
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca_path),
        }
        conninfo = " ".join(f"{key}={_conninfo(value)}" for key, value in words.items())
        return f"PGPASSFILE={quote(str(self.pgpass))} psql {quote(conninfo)}"

    def dsn(self, token: str) -> str:
        """With the token: a secret."""
        user, database = url_quote(self.user, safe=""), url_quote(self.database, safe="")
        return f"postgresql://{user}:{token}@127.0.0.1:{self.port}/{database}"

    def document(self, token: str) -> Mapping[str, Any]:
        return {
            "name": self.name,
            "protocol": "postgresql",
            "host": "127.0.0.1",
            "port": self.port,
            "dsn": self.dsn(token),
            "command": self.command,
            "env": self.environment,
        }


def _conninfo(value: str) -> str:
    """A value as libpq's connection string quotes it."""
    if value and all(c.isalnum() or c in "._-/" for c in value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
