# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's own files: whoever may declare objects could have one sent off as a secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.config import MasterKeySource, Settings

_OF_THE_KERNEL = ("/proc", "/sys")
"""/proc/self/environ holds what the service was started with."""
_IN_HOME = (".aws", ".pgpass", ".postgresql", ".pg_service.conf")
_BY_VARIABLE = (
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "PGPASSFILE",
    "PGSERVICEFILE",
    "PGSSLKEY",
)
"""Where libraries that sign the gateway in elsewhere look for what proves it."""


def closed_to_objects(settings: Settings, env: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Files and folders that no object may name, with all links resolved."""
    named = [settings.data, settings.store_place, settings.tls.key_path, settings.file]
    named += [settings.master_key.token_path, settings.store.source if settings.store else None]
    own = [path for path in named if isinstance(path, Path)]
    for source in (settings.master_key_source, *settings.master_key.previous):
        own += _of_key(source, env)
    own += [Path(folder) for folder in _OF_THE_KERNEL]
    own += [Path(env[name]) for name in _BY_VARIABLE if env.get(name)]
    if home := env.get("HOME"):
        own += [Path(home) / name for name in _IN_HOME]
    return tuple(path.resolve() for path in own)


def _of_key(source: MasterKeySource, env: Mapping[str, str]) -> Iterator[Path]:
    if source.kind == "file":
        yield Path(source.name)
    elif source.kind == "systemd-credential" and env.get("CREDENTIALS_DIRECTORY"):
        # Others beside it may be targets' secrets.
        yield Path(env["CREDENTIALS_DIRECTORY"]) / source.name
