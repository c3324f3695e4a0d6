# SPDX-License-Identifier: GPL-3.0-or-later
"""A token in the forms that clients read from a program which gives them credentials."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


def exec_credential(document: Mapping[str, Any]) -> dict[str, Any]:
    """Kubernetes' ExecCredential, in the version that the client asks for."""
    return {
        "apiVersion": _api_version(os.environ.get("KUBERNETES_EXEC_INFO", "")),
        "kind": "ExecCredential",
        "status": {"token": document["token"], "expirationTimestamp": document["expires"]},
    }


def _api_version(info: str) -> str:
    try:
        asked = json.loads(info)
    except ValueError:
        return API_VERSIONS[0]
    wanted = asked.get("apiVersion") if isinstance(asked, dict) else None
    return wanted if wanted in API_VERSIONS else API_VERSIONS[0]


def credential_process(document: Mapping[str, Any]) -> dict[str, Any]:
    """What AWS's `credential_process` prints: the keys are no keys, the session token is ours."""
    return {
        "Version": 1,
        "AccessKeyId": document["grant"],
        "SecretAccessKey": document["grant"],
        "SessionToken": document["token"],
        "Expiration": document["expires"],
    }


FORMATS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "exec-credential": exec_credential,
    "credential-process": credential_process,
}
