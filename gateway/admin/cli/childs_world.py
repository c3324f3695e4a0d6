# SPDX-License-Identifier: GPL-3.0-or-later
"""What a child of `run` finds: its own token and clients' settings, nothing of its parent's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.admin.cli.output import Failed
from gateway.admin.cli.token import write_private

PARENTS_OWN = (
    "TRAILGATE_TOKEN",
    "TRAILGATE_TOKEN_FILE",
    "TRAILGATE_DATA",
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
"""Never inherited: the parent's authority, and settings that lead around the gateway or that no
link to it can meet."""
PLACE = ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT")
"""Inherited only while they name a target of the gateway, as an outer `run` set them."""


def child_environment(
    parent: Mapping[str, str],
    *,
    parent_tokens: Sequence[str],
    token: str,
    own: Mapping[str, Any],
    target: str | None,
    folder: Path,
    fallback_url: str,
) -> dict[str, str]:
    """The child's environment; its files are written to `folder` (which must be 0700).

    `own` is the API's answer to GET /api/v1/self with the child's token.
    """
    env = {
        name: value
        for name, value in parent.items()
        if name not in PARENTS_OWN and not any(secret in value for secret in parent_tokens)
    }
    if not _is_ours(env, own["targets"]):
        env = {name: value for name, value in env.items() if name not in PLACE}
    env["TRAILGATE_TOKEN"] = token
    env["TRAILGATE_URL"] = own.get("url") or fallback_url
    ca_path = _ca_path(parent, own, folder)
    if ca_path is not None:
        env["TRAILGATE_CA_PATH"] = ca_path
    env.update(_postgresql(own["targets"], target, token, folder, ca_path))
    return env


def _is_ours(env: Mapping[str, str], targets: Sequence[Mapping[str, Any]]) -> bool:
    place = env.get("PGHOST"), env.get("PGPORT")
    return any(place == (str(target["host"]), str(target["port"])) for target in targets)


def _ca_path(parent: Mapping[str, str], own: Mapping[str, Any], folder: Path) -> str | None:
    if given := parent.get("TRAILGATE_CA_PATH"):
        return os.path.abspath(given)
    if not own.get("ca_pem"):
        return None
    path = folder / "ca.pem"
    write_private(path, own["ca_pem"])
    return str(path)


def _postgresql(
    targets: Sequence[Mapping[str, Any]],
    wanted: str | None,
    token: str,
    folder: Path,
    ca_path: str | None,
) -> dict[str, str]:
    """libpq's settings for the target wanted, or for the only one of that protocol."""
    databases = [target for target in targets if target["protocol"] == "postgresql"]
    passfile = folder / "pgpass"
    write_private(passfile, "".join(_pgpass_line(target, token) for target in databases))
    env = {"PGPASSFILE": str(passfile)}
    target = _chosen(targets, databases, wanted)
    if target is None:
        return env
    env |= {"PGHOST": str(target["host"]), "PGPORT": str(target["port"])}
    for name, key in (("PGUSER", "user"), ("PGDATABASE", "database")):
        if target.get(key):
            env[name] = str(target[key])
    env["PGSSLMODE"] = "verify-full" if target.get("tls", True) else "disable"
    if target.get("tls", True):
        env["PGSSLROOTCERT"] = ca_path or "system"
    return env


def _chosen(
    targets: Sequence[Mapping[str, Any]],
    databases: Sequence[Mapping[str, Any]],
    wanted: str | None,
) -> Mapping[str, Any] | None:
    if wanted is None:
        return databases[0] if len(databases) == 1 else None
    for target in targets:
        if target["name"] == wanted:
            return target if target in databases else None
    names = ", ".join(sorted(str(target["name"]) for target in targets)) or "none"
    raise Failed(f"the child may use no target {wanted!r}", f"--target is one of: {names}")


def _pgpass_line(target: Mapping[str, Any], token: str) -> str:
    host = str(target["host"]).replace("\\", "\\\\").replace(":", "\\:")
    return f"{host}:{target['port']}:*:*:{token}\n"
