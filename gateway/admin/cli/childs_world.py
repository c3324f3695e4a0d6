# SPDX-License-Identifier: GPL-3.0-or-later
"""What a child of `run` finds: its own token and clients' settings, nothing of its parent's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.admin.cli._clients import Access, NativeClient, Target, clients, named
from gateway.admin.cli.output import Failed
from gateway.admin.cli.token import write_private

PARENTS_OWN = ("TRAILGATE_TOKEN", "TRAILGATE_TOKEN_FILE", "TRAILGATE_DATA")
"""Never inherited: the parent's authority."""


def child_environment(
    parent: Mapping[str, str],
    *,
    parent_tokens: Sequence[str],
    token: str,
    own: Mapping[str, Any],
    target: str | None,
    folder: Path,
    fallback_url: str,
    foreign: bool = False,
) -> dict[str, str]:
    """The child's environment; its files are written to `folder` (which must be 0700).

    `own` is the API's answer to GET /api/v1/self with the child's token. `foreign`: the child is
    another user, who can read what lies in `folder` and perhaps nothing else.
    """
    env = _inherited(parent, own["targets"], parent_tokens)
    env["TRAILGATE_TOKEN"] = token
    env["TRAILGATE_URL"] = own.get("url") or fallback_url
    ca_path = ca_file(parent, own, folder, copied=foreign)
    if ca_path is not None:
        env["TRAILGATE_CA_PATH"] = ca_path
    access = Access(token, folder, ca_path)
    for client in clients().values():
        env |= settings_for(client, own["targets"], target, access)
    return env


def _inherited(
    parent: Mapping[str, str], targets: Sequence[Target], parent_tokens: Sequence[str]
) -> dict[str, str]:
    gone = set(PARENTS_OWN)
    for client in clients().values():
        gone |= set(client.never_inherited)
        mine = [one for one in targets if one["protocol"] == client.protocol]
        if not any(client.is_at(parent, one) for one in mine):
            gone |= set(client.place)
    return {
        name: value
        for name, value in parent.items()
        if name not in gone and not any(secret in value for secret in parent_tokens)
    }


def settings_for(
    client: NativeClient, targets: Sequence[Target], wanted: str | None, access: Access
) -> dict[str, str]:
    """A client's variables for the target wanted, or for the only one of its protocol."""
    mine = [one for one in targets if one["protocol"] == client.protocol]
    if wanted is None:
        chosen = mine[0] if len(mine) == 1 else None
    else:
        target = named(targets, wanted)
        chosen = target if target in mine else None
    return client.environment(mine, chosen, access)


def ca_file(
    env: Mapping[str, str], own: Mapping[str, Any], folder: Path, *, copied: bool = False
) -> str | None:
    """Where the gateway's CA lies: what TRAILGATE_CA_PATH names, or a file in `folder`."""
    given, text = env.get("TRAILGATE_CA_PATH"), own.get("ca_pem")
    if given and not copied:
        return os.path.abspath(given)
    if given:
        try:
            text = Path(given).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cure = "name the gateway's CA as a PEM file"
            raise Failed(f"TRAILGATE_CA_PATH {given}: {error}", cure) from None
    if not text:
        return None
    path = folder / "ca.pem"
    write_private(path, text)
    return str(path)
