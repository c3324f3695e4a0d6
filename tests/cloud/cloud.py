# SPDX-License-Identifier: GPL-3.0-or-later
"""moto as a cloud on loopback, by TLS alone: python -m tests.cloud.cloud PORT CERT KEY.

moto takes a denial in a bucket's policy for one whatever its conditions say. Here the condition
aws:SecureTransport is looked at, so that a bucket which takes TLS only can be used at all.
"""

from __future__ import annotations

import sys
from typing import Any

from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.server import main

_decided = IAMPolicyStatement.is_action_permitted


def _with_conditions(self: IAMPolicyStatement, *given: Any, **named: Any) -> PermissionResult:
    secure = self._statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport")
    if secure in ("false", ["false"]):
        return PermissionResult.NEUTRAL  # nothing comes here but by TLS
    return _decided(self, *given, **named)


if __name__ == "__main__":
    port, certificate, key = sys.argv[1:]
    IAMPolicyStatement.is_action_permitted = _with_conditions  # type: ignore[method-assign]
    main(["-H", "127.0.0.1", "-p", port, "-s", "-c", certificate, "-k", key])
