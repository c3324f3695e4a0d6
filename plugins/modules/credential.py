#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: credential
short_description: Declare what the gateway signs in with
description:
  - A user of a target and its secret, which only the gateway has. Nobody can read the secret back.
  - The secret is given by value and goes to the gateway's vault, or stays in a file on the gateway's host.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  user:
    description:
      - The user at the target; also the name that clients type.
    type: str
  login:
    description:
      - How the gateway signs in, V(scram-sha-256) if nothing is said. It is fixed, so that a target cannot talk it
        down.
    type: str
    choices: [scram-sha-256, md5, password, certificate, trust]
  secret:
    description:
      - The secret itself, which the gateway's vault keeps.
    type: str
  secret_file:
    description:
      - A file on the gateway's host that has the secret.
    type: str
  update_secret:
    description:
      - If V(on_create), O(secret) is given only where the vault has none yet, so that what a rotation made stays.
      - If V(always), it is given at every run, and the task is changed every time, since nobody can compare it.
    type: str
    choices: [on_create, always]
    default: on_create
  rotation:
    description:
      - How the gateway changes the secret by itself. Without it, the gateway never does.
    type: dict
    suboptions:
      kind:
        description:
          - How the secret is changed at the target, such as V(postgresql).
        type: str
        required: true
      mode:
        description:
          - One account that is given a new secret, which is the default, or two that take turns.
        type: str
        choices: [single-user, two-user]
      users:
        description:
          - The two accounts that take turns; clients still type O(user).
        type: list
        elements: str
      by:
        description:
          - The credential of an administrator who changes it. Without one, an account changes its own.
        type: str
      target:
        description:
          - The target where it is changed, if it is not every one that names the credential.
        type: str
      every:
        description:
          - How often it is changed without being asked to, such as V(30d). Without it, on command alone.
        type: str
      grace:
        description:
          - How long the secret before still works after the switch, V(15m) if nothing is said.
        type: str
"""

EXAMPLES = r"""
- name: The gateway signs in as app
  trailgate.gateway.credential:
    url: unix:///var/lib/trailgate/admin.sock
    name: orders-app
    user: app
    secret: "{{ vault_orders_password }}"

- name: The secret lies in a file on the gateway's host
  trailgate.gateway.credential:
    url: unix:///var/lib/trailgate/admin.sock
    name: reporting
    user: report
    secret_file: /run/secrets/reporting

- name: The gateway changes it every month, and two accounts take turns
  trailgate.gateway.credential:
    url: unix:///var/lib/trailgate/admin.sock
    name: orders-writer
    user: writer
    secret: "{{ vault_orders_password }}"
    rotation:
      kind: postgresql
      mode: two-user
      users: [writer_a, writer_b]
      every: 30d
      grace: 15m
"""

RETURN = r"""
object:
  description:
    - The credential as it is now, without its secret. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: credential
    name: orders-app
    version: 1
    managed_by: ansible
    document:
      credential: orders-app
      user: app
      secret: {from: vault}
secret_changed:
  description: Whether a secret was given to the gateway.
  returned: success
  type: bool
  sample: true
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.gateway import Gateway, GatewayError
from ansible_collections.trailgate.gateway.plugins.module_utils.objects import (
    document_of,
    object_module,
    object_path,
    run_object,
)

FIELDS = {
    "user": {"type": "str"},
    "login": {"type": "str", "choices": ["scram-sha-256", "md5", "password", "certificate", "trust"]},
    "rotation": {
        "type": "dict",
        "options": {
            "kind": {"type": "str", "required": True},
            "mode": {"type": "str", "choices": ["single-user", "two-user"]},
            "users": {"type": "list", "elements": "str"},
            "by": {"type": "str"},
            "target": {"type": "str"},
            "every": {"type": "str"},
            "grace": {"type": "str"},
        },
    },
}
SECRET = {
    "secret": {"type": "str", "no_log": True},
    "secret_file": {"type": "str", "no_log": False},
    "update_secret": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
}
IN_VAULT = {"from": "vault"}


def _held(module):
    """Whether the gateway has a secret for it already."""
    try:
        found = Gateway(module.params).get(object_path("credential", module.params["name"]))
    except GatewayError as error:
        module.fail_json(msg="credential %s: %s" % (module.params["name"], error), status=error.status)
    return bool(found) and found["document"].get("secret") == IN_VAULT


def main():
    fields = dict(FIELDS)
    fields.update(SECRET)
    module = object_module("credential", fields, needed=["user"], mutually_exclusive=[("secret", "secret_file")])
    document = document_of(module.params, FIELDS)
    given = module.params["secret"]
    if given is not None and not given.strip():
        module.no_log_values.discard(given)  # it is no secret, and its spaces would be hidden in every message
        module.fail_json(msg="credential %s: the secret is empty; give one, or secret_file" % module.params["name"])
    if module.params["secret_file"] is not None:
        document["secret"] = {"from": "file:" + module.params["secret_file"]}
    elif given is not None and module.params["state"] == "present":
        if module.params["update_secret"] == "always" or not _held(module):
            document["secret"] = {"value": given}
    run_object(module, "credential", document)


if __name__ == "__main__":
    main()
