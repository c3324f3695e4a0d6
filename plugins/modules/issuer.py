#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: issuer
short_description: Declare whose tokens are taken
description:
  - An OpenID provider whose tokens the gateway takes, and where in a token it finds subject, groups and name.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  issuer_url:
    description:
      - The issuer's URL, exactly as C(iss) in its tokens has it.
    type: str
  audience:
    description:
      - The audience that tokens for this gateway have.
    type: str
  algorithms:
    description:
      - Signature algorithms that are accepted.
    type: list
    elements: str
  claims:
    description:
      - Which claim says what.
    type: dict
    suboptions:
      subject:
        description:
          - The claim with the subject.
        type: str
      groups:
        description:
          - The claim with the groups.
        type: str
      name:
        description:
          - The claim with a name to show.
        type: str
  subjects:
    description:
      - Whether its tokens are of persons or of workloads.
    type: str
    choices: [person, workload]
  issuer_ca_path:
    description:
      - PEM file on the gateway's host with the CA of the provider.
    type: str
"""

EXAMPLES = r"""
- name: Tokens of the corporate provider are taken
  trailgate.gateway.issuer:
    url: unix:///var/lib/trailgate/admin.sock
    name: corp
    issuer_url: https://id.example.com
    audience: trailgate
    algorithms: [ES256, RS256]
    claims:
      groups: roles
"""

RETURN = r"""
object:
  description:
    - The issuer as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: issuer
    name: corp
    version: 1
    managed_by: ansible
    document:
      issuer: corp
      url: https://id.example.com
      audience: trailgate
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "issuer_url": {"type": "str"},
    "audience": {"type": "str"},
    "algorithms": {"type": "list", "elements": "str"},
    "claims": {
        "type": "dict",
        "options": {
            "subject": {"type": "str"},
            "groups": {"type": "str"},
            "name": {"type": "str"},
        },
    },
    "subjects": {"type": "str", "choices": ["person", "workload"]},
    "issuer_ca_path": {"type": "str"},
}

# The connection's own options have these names.
RENAMED = {"issuer_url": "url", "issuer_ca_path": "ca_path"}


def main():
    module = object_module("issuer", FIELDS, needed=["issuer_url", "audience"])
    document = document_of(module.params, FIELDS)
    for option, field in RENAMED.items():
        if option in document:
            document[field] = document.pop(option)
    run_object(module, "issuer", document)


if __name__ == "__main__":
    main()
