#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: recipient
short_description: Declare whom the record is sealed to
description:
  - A public key that every session's key is wrapped to. Whoever has the private key can read what the record holds.
  - The gateway uses a new recipient from its next start on.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  key:
    description:
      - The public key, which is the line of C(recipient.pub) as C(trailgate keys make) writes it.
    type: str
  view:
    description:
      - Which answers it can read, which is those that were delivered.
    type: str
    choices: [delivered]
"""

EXAMPLES = r"""
- name: The external auditor can read the record
  trailgate.gateway.recipient:
    url: unix:///var/lib/trailgate/admin.sock
    name: external-auditor
    key: "{{ lookup('ansible.builtin.file', 'auditor/recipient.pub') }}"
"""

RETURN = r"""
object:
  description:
    - The recipient as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: recipient
    name: external-auditor
    version: 1
    managed_by: ansible
    document:
      recipient: external-auditor
      key: trailgate-recipient-x25519 AAAA
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "key": {"type": "str", "no_log": False},
    "view": {"type": "str", "choices": ["delivered"]},
}


def main():
    module = object_module("recipient", FIELDS, needed=["key"])
    run_object(module, "recipient", document_of(module.params, FIELDS))


if __name__ == "__main__":
    main()
