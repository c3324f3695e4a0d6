#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gateway_info
short_description: Read whether a gateway is ready, and what it guards
description:
  - Whether every part of the gateway is ready, and the objects that are declared on it.
  - To read the objects needs the right V(admin) or V(audit).
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.attributes_info
options:
  gather:
    description:
      - Kinds of objects to read.
    type: list
    elements: str
    choices: [target, credential, policy, access, issuer, agent, person, recipient, retention, legal_hold]
    default: []
"""

EXAMPLES = r"""
- name: Wait until the gateway is ready
  trailgate.gateway.gateway_info:
    url: https://gateway.example.com:8443
    ca_path: /etc/trailgate/ca.pem
  register: gateway
  until: gateway.ready | default(false)
  retries: 10
  delay: 1

- name: Read what it guards
  trailgate.gateway.gateway_info:
    url: unix:///var/lib/trailgate/admin.sock
    gather: [target, policy]
"""

RETURN = r"""
ready:
  description: Whether every check passed.
  returned: success
  type: bool
  sample: true
checks:
  description: What each part said.
  returned: success
  type: dict
  sample:
    record: ok
    store: ok
objects:
  description: The objects by kind, as far as O(gather) asks for them.
  returned: success
  type: dict
  sample:
    target:
      - kind: target
        name: orders
        version: 3
        managed_by: ansible
        document:
          target: orders
          protocol: postgresql
          address: db1.internal:5432
          credentials: [orders-app]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trailgate.gateway.plugins.module_utils.gateway import CONNECTION, Gateway, GatewayError
from ansible_collections.trailgate.gateway.plugins.module_utils.objects import plural

KINDS = [
    "target",
    "credential",
    "policy",
    "access",
    "issuer",
    "agent",
    "person",
    "recipient",
    "retention",
    "legal_hold",
]


def main():
    spec = dict(CONNECTION)
    spec["gather"] = {"type": "list", "elements": "str", "choices": KINDS, "default": []}
    module = AnsibleModule(spec, supports_check_mode=True)
    try:
        gateway = Gateway(module.params)
        ready = gateway.readiness()
        objects = {kind: gateway.pages("/api/v1/" + plural(kind)) for kind in module.params["gather"]}
    except GatewayError as error:
        module.fail_json(msg=str(error), status=error.status)
    module.exit_json(changed=False, ready=ready["ready"], checks=ready["checks"], objects=objects)


if __name__ == "__main__":
    main()
