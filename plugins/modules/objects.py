#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: objects
short_description: Declare a set of objects together, or nothing of it
description:
  - Objects that refer to each other need no order, because the gateway takes the whole set at once.
  - A set with a mistake changes nothing.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.attributes
options:
  objects:
    description:
      - The objects, each with its kind as the first key. One with a secret in it is refused; give it in O(secrets).
    type: list
    elements: dict
    required: true
  secrets:
    description:
      - Secrets by the name of the credential among O(objects). The gateway's vault keeps them.
    type: dict
    default: {}
  update_secrets:
    description:
      - If V(on_create), a secret is given only where the vault has none yet, so that what a rotation made stays.
      - If V(always), all are given at every run, and the task is changed every time, since nobody can compare them.
    type: str
    choices: [on_create, always]
    default: on_create
  prune:
    description:
      - Delete objects that the same O(managed_by) declared before and that are not among O(objects).
    type: bool
    default: false
  managed_by:
    description:
      - Who looks after the objects. Another one's are not changed, unless O(adopt=true).
    type: str
    default: ansible:objects
  adopt:
    description:
      - Take objects over from whoever manages them.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: The orders database, how to sign in there, and who may read it
  trailgate.gateway.objects:
    url: unix:///var/lib/trailgate/admin.sock
    objects:
      - credential: orders-writer
        user: app
      - target: orders-replica
        protocol: postgresql
        address: db2.internal:5432
        credentials: [orders-writer]
      - policy: replica-readers
        match:
          targets: [orders-replica]
        rules:
          - id: read
            allow:
              sql:
                kinds: [read]
    secrets:
      orders-writer: "{{ vault_orders_password }}"
    prune: true
"""

RETURN = r"""
changes:
  description: What was done, or would be done, to each object; C(action) is V(create), V(update), V(delete) or V(none).
  returned: success
  type: list
  elements: dict
  sample:
    - action: create
      kind: target
      name: orders-replica
      secret: false
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trailgate.gateway.plugins.module_utils.gateway import CONNECTION, Gateway, GatewayError
from ansible_collections.trailgate.gateway.plugins.module_utils.objects import object_path

IN_VAULT = {"from": "vault"}
SECRETS = {
    "secret": "give it in secrets, by the credential's name",
    "client_secret": "keep it in a file on the gateway's host, and write {from: file:PATH}",
}
"""Members that hold a secret, and where it belongs."""


def _refuse_secrets(module):
    """Raises GatewayError where a secret stands among the objects; it is shown nowhere from here on."""
    found = []
    for document in module.params["objects"]:
        for member in SECRETS:
            given = document.get(member)
            value = given.get("value") if isinstance(given, dict) else given
            if value is not None:
                module.no_log_values.add(str(value))
                found.append((next(iter(document.items())), member))
    for (kind, name), member in found:
        raise GatewayError("%s %s has its %s in it" % (kind, name, member), SECRETS[member])


def _documents(module, gateway):
    """The objects, with the secrets that are to be given."""
    secrets = dict(module.params["secrets"])
    documents = [dict(one) for one in module.params["objects"]]
    for document in documents:
        name = document.get("credential")
        if not isinstance(name, str) or name not in secrets:
            continue
        secret = secrets.pop(name)
        if module.params["update_secrets"] == "always" or not _held(gateway, name):
            document["secret"] = {"value": str(secret)}
    if secrets:
        raise GatewayError(
            "secrets for %s, which no credential here is called" % ", ".join(sorted(map(str, secrets))),
            "declare the credential among objects, or take its secret away",
        )
    return documents


def _held(gateway, name):
    found = gateway.get(object_path("credential", name))
    return bool(found) and found["document"].get("secret") == IN_VAULT


def main():
    spec = dict(CONNECTION)
    spec.update(
        objects={"type": "list", "elements": "dict", "required": True},
        secrets={"type": "dict", "default": {}, "no_log": True},
        update_secrets={"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
        prune={"type": "bool", "default": False},
        managed_by={"type": "str", "default": "ansible:objects"},
        adopt={"type": "bool", "default": False},
    )
    module = AnsibleModule(spec, supports_check_mode=True)
    try:
        _refuse_secrets(module)
        gateway = Gateway(module.params)
        asked = {name: module.params[name] for name in ("prune", "adopt", "managed_by")}
        asked["objects"] = _documents(module, gateway)
        query = {"dry_run": "true"} if module.check_mode else None
        changes = gateway.call("POST", "/api/v1/apply", query, asked)["changes"]
    except GatewayError as error:
        module.fail_json(msg=str(error), status=error.status)
    module.exit_json(
        changed=any(one["changed"] for one in changes),
        changes=[{name: one[name] for name in ("action", "kind", "name", "secret")} for one in changes],
        diff=[_diff(one) for one in changes if one["changed"]],
    )


def _diff(change):
    header = "%s %s" % (change["kind"], change["name"])
    return {
        "before_header": header,
        "after_header": header,
        "before": change["before"] or {},
        "after": change["after"] or {},
    }


if __name__ == "__main__":
    main()
