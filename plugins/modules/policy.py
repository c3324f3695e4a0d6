#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: policy
short_description: Declare who may do what on which targets
description:
  - A policy is a list of rules. What no rule of any policy allows is denied.
  - The gateway checks the whole document, and runs its O(tests), before it is put in force. One that is wrong
    changes nothing.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  description:
    description:
      - What the policy is for.
    type: str
  mode:
    description:
      - If V(observe), decisions are recorded and nothing is refused. V(enforce) if nothing is said.
    type: str
    choices: [enforce, observe]
  match:
    description:
      - What the policy applies to, by targets, groups, labels, protocols, issuers, kinds and users; all, if it is not
        given.
    type: dict
  rules:
    description:
      - The rules, each with an id and one action.
    type: list
    elements: dict
  strict:
    description:
      - If V(true), what ordinary clients need besides is not allowed implicitly wherever this policy matches.
    type: bool
  durability:
    description:
      - If V(disk), the record of a session is on disk before a byte moves. V(process) if nothing is said.
    type: str
    choices: [process, disk]
  on_record_failure:
    description:
      - If V(best_effort), open sessions go on where there is no room for the record, and the gap is signed. V(close) if
        nothing is said.
    type: str
    choices: [close, best_effort]
  tests:
    description:
      - Cases with what is expected of them; a policy whose tests fail is not taken.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Members of data-agents may read
  trailgate.gateway.policy:
    url: unix:///var/lib/trailgate/admin.sock
    name: read-only
    description: Members of data-agents may read.
    durability: disk
    match:
      groups: [data-agents]
    rules:
      - id: read
        allow:
          sql:
            kinds: [read]
    tests:
      - as:
          groups: [data-agents]
        target: orders
        sql: select 1
        expect: allow
"""

RETURN = r"""
object:
  description:
    - The policy as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: policy
    name: read-only
    version: 1
    managed_by: ansible
    document:
      policy: read-only
      match:
        groups:
        - data-agents
      rules:
      - id: read
        allow:
          sql:
            kinds:
            - read
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "description": {"type": "str"},
    "mode": {"type": "str", "choices": ["enforce", "observe"]},
    "match": {"type": "dict"},
    "rules": {"type": "list", "elements": "dict"},
    "strict": {"type": "bool"},
    "durability": {"type": "str", "choices": ["process", "disk"]},
    "on_record_failure": {"type": "str", "choices": ["close", "best_effort"]},
    "tests": {"type": "list", "elements": "dict"},
}


def main():
    module = object_module("policy", FIELDS, needed=["rules"])
    run_object(module, "policy", document_of(module.params, FIELDS))


if __name__ == "__main__":
    main()
