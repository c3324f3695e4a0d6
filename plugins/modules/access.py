#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: access
short_description: Declare rights on the gateway itself
description:
  - What members of groups may do on the gateway through its API. Rights on targets come from
    M(trailgate.gateway.policy) alone.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  groups:
    description:
      - Groups, as tokens name them.
    type: list
    elements: str
  may:
    description:
      - The rights.
      - V(read_sessions) sees other people's sessions. V(operate) ends them, and sees and rotates credentials.
      - V(audit) reads objects, V(admin) declares them and has all other rights but V(approve).
    type: list
    elements: str
    choices: [approve, read_sessions, audit, operate, admin]
  targets:
    description:
      - The targets for which they hold; V(*) is all, which it is if none is given. Not for V(audit) and V(admin).
    type: list
    elements: str
  issuers:
    description:
      - Names of issuers whose groups are meant; none means any.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: DBAs read the sessions on orders
  trailgate.gateway.access:
    url: unix:///var/lib/trailgate/admin.sock
    name: dba
    groups: [dba]
    may: [read_sessions]
    targets: [orders]

- name: They do not any more
  trailgate.gateway.access:
    url: unix:///var/lib/trailgate/admin.sock
    name: dba
    state: absent
"""

RETURN = r"""
object:
  description:
    - The access object as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: access
    name: dba
    version: 1
    managed_by: ansible
    document:
      access: dba
      groups:
      - dba
      may:
      - read_sessions
      targets:
      - orders
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "groups": {"type": "list", "elements": "str"},
    "may": {"type": "list", "elements": "str", "choices": ["approve", "read_sessions", "audit", "operate", "admin"]},
    "targets": {"type": "list", "elements": "str"},
    "issuers": {"type": "list", "elements": "str"},
}


def main():
    module = object_module("access", FIELDS, needed=["groups", "may"])
    run_object(module, "access", document_of(module.params, FIELDS))


if __name__ == "__main__":
    main()
