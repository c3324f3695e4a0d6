#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: agent
short_description: Name a workload identity, or an agent with a key of its own
description:
  - The name that policies and the record have for a workload, whatever its token calls it.
  - An agent with O(key) signs in by itself, with an assertion that only its private key can make.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  issuer:
    description:
      - The name of the issuer.
    type: str
  subject:
    description:
      - The subject in its tokens.
    type: str
  key:
    description:
      - Its public keys, in PEM, or as a JWK or a JWK set. A private key is refused.
    type: json
"""

EXAMPLES = r"""
- name: The nightly job is called reader
  trailgate.gateway.agent:
    url: unix:///var/lib/trailgate/admin.sock
    name: reader
    issuer: ci
    subject: "repo:shop/etl:ref:refs/heads/main"

- name: The deployer has a key of its own
  trailgate.gateway.agent:
    url: unix:///var/lib/trailgate/admin.sock
    name: deployer
    key: "{{ lookup('ansible.builtin.file', 'deployer/agent.pub') }}"
"""

RETURN = r"""
object:
  description:
    - The agent as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: agent
    name: reader
    version: 1
    managed_by: ansible
    document:
      agent: reader
      issuer: ci
      subject: repo:shop/etl:ref:refs/heads/main
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "issuer": {"type": "str"},
    "subject": {"type": "str"},
    "key": {"type": "json", "no_log": False},
}


def main():
    module = object_module("agent", FIELDS, either=["subject", "key"], required_together=[("issuer", "subject")])
    run_object(module, "agent", document_of(module.params, FIELDS))


if __name__ == "__main__":
    main()
