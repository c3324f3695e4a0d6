#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rotation
short_description: Have a gateway rotate a credential
description:
  - The gateway makes a new secret inside of itself, proves it by a login at the target, switches to it, and retires the
    old one after a grace. This module starts that and watches it; it never sees a secret.
  - If a rotation fails, the secret before stays in force, and so does the task fail.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.attributes
options:
  name:
    description:
      - The credential. It has a C(rotation) of its own that says how.
    type: str
    required: true
  max_age:
    description:
      - Rotate only if the secret is older than this, V(90s), V(15m), V(12h) or V(30d). Needed unless O(force=true).
    type: str
  force:
    description:
      - Rotate at any age, and end a grace that still runs.
    type: bool
    default: false
  wait:
    description:
      - For how many seconds to wait until sessions sign in with the new secret. The rotation goes on by itself after
        that.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Secrets older than a month are rotated
  trailgate.gateway.rotation:
    url: unix:///var/lib/trailgate/admin.sock
    name: orders-app
    max_age: 30d

- name: Somebody saw it, rotate it now
  trailgate.gateway.rotation:
    url: unix:///var/lib/trailgate/admin.sock
    name: orders-app
    force: true
"""

RETURN = r"""
rotation:
  description:
    - The rotation with its C(version), the C(step) that it has come to, and its C(outcome), which is V(null) while the
      grace runs.
    - V(null) itself if the secret is young enough, and in check mode.
  returned: success
  type: dict
  sample:
    id: r_0123456789abcdef
    version: 2
    step: switched
    outcome: null
"""

import re
import time
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trailgate.gateway.plugins.module_utils.gateway import CONNECTION, Gateway, GatewayError
from ansible_collections.trailgate.gateway.plugins.module_utils.objects import object_path

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
POLL_SECONDS = 0.5


def _seconds(module):
    text = module.params["max_age"]
    if text is None:
        return None
    found = re.match(r"([0-9]{1,9})([smhd])\Z", text)
    if found is None:
        module.fail_json(msg="max_age %r is no length of time: write 90s, 15m, 8h or 30d" % text)
    return int(found.group(1)) * SECONDS[found.group(2)]


def _is_young(gateway, path, max_age):
    current = [one for one in gateway.call("GET", path + "/versions") if one["state"] == "current"]
    if max_age is None or not current:
        return False
    began = datetime.fromisoformat((current[0]["current_at"] or current[0]["made_at"]).replace("Z", "+00:00"))
    return (datetime.now(timezone.utc) - began).total_seconds() < max_age


def _would_rotate(gateway, path, max_age, force):
    """In check mode: whether one would begin. Raises GatewayError where the gateway would refuse it."""
    latest = (gateway.call("GET", path + "/rotations") or [None])[0]
    if not _has_rotation(gateway, path):
        raise GatewayError("it has no rotation", "give the credential a rotation that says how")
    if latest is not None and _on_its_way(latest):
        return False
    if not force and _is_young(gateway, path, max_age):
        return False
    if latest is not None and not latest["outcome"] and not force:
        raise GatewayError("the secret before is still in its grace", "wait, or end it with force: true")
    return True


def _has_rotation(gateway, path):
    """Whether the credential says how; taken for granted where the caller may not read it."""
    try:
        return bool(gateway.call("GET", path)["document"].get("rotation"))
    except GatewayError as error:
        if error.status != 403:
            raise
        return True


def _on_its_way(rotation):
    return not rotation["outcome"] and rotation["step"] not in ("switched", "retiring")


def _waited(gateway, path, rotation, seconds):
    """The rotation once it is over, or as it is when the time is up."""
    end = time.monotonic() + seconds
    while _on_its_way(rotation) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        found = gateway.call("GET", path + "/rotations")
        rotation = next(one for one in found if one["id"] == rotation["id"])
    return rotation


def _rotated(module, gateway, path, max_age):
    if module.check_mode:
        return {"changed": _would_rotate(gateway, path, max_age, module.params["force"]), "rotation": None}
    answer = gateway.call("POST", path + "/rotate", body={"max_age": max_age, "force": module.params["force"]})
    # One that somebody began before is waited for too: "unchanged" must not hide that it fails.
    if not answer["changed"] and not (answer["rotation"] and _on_its_way(answer["rotation"])):
        return {"changed": False, "rotation": None}
    rotation = _waited(gateway, path, answer["rotation"], module.params["wait"])
    if rotation["outcome"] == "failed":
        raise GatewayError(
            "it was not rotated: %s" % rotation["detail"],
            "the secret before stays in force; mend the account or the target, and run again",
        )
    if _on_its_way(rotation):
        raise GatewayError(
            "version %s is only %s: %s"
            % (rotation["version"], rotation["step"], rotation["detail"] or "not done in time"),
            "it goes on by itself: `trailgate credentials list NAME` on the gateway's host tells how",
        )
    return {"changed": answer["changed"], "rotation": rotation}


def main():
    spec = dict(CONNECTION)
    spec.update(
        name={"type": "str", "required": True},
        max_age={"type": "str"},
        force={"type": "bool", "default": False},
        wait={"type": "int", "default": 60},
    )
    module = AnsibleModule(spec, supports_check_mode=True)
    max_age = _seconds(module)
    if max_age is None and not module.params["force"]:
        module.fail_json(msg="when is it to be rotated? set max_age, or force: true")
    try:
        path = object_path("credential", module.params["name"])
        done = _rotated(module, Gateway(module.params), path, max_age)
    except GatewayError as error:
        module.fail_json(msg="credential %s: %s" % (module.params["name"], error), status=error.status)
    module.exit_json(**done)


if __name__ == "__main__":
    main()
