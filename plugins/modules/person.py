#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: person
short_description: Link the identities of one human
description:
  - The logins of one human at several issuers, so that policies and the record have one name for all of them.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  identities:
    description:
      - The identities.
    type: list
    elements: dict
    suboptions:
      issuer:
        description:
          - The name of an issuer.
        type: str
      subject:
        description:
          - The subject in its tokens.
        type: str
"""

EXAMPLES = r"""
- name: Both logins are Alice's
  trailgate.gateway.person:
    url: unix:///var/lib/trailgate/admin.sock
    name: alice
    identities:
      - issuer: corp
        subject: 00u1
      - issuer: ci
        subject: alice
"""

RETURN = r"""
object:
  description:
    - The person as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: person
    name: alice
    version: 1
    managed_by: ansible
    document:
      person: alice
      identities:
      - issuer: corp
        subject: 00u1
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "identities": {
        "type": "list",
        "elements": "dict",
        "options": {
            "issuer": {"type": "str"},
            "subject": {"type": "str"},
        },
    },
}


def main():
    module = object_module("person", FIELDS, needed=["identities"])
    run_object(module, "person", document_of(module.params, FIELDS))


if __name__ == "__main__":
    main()
