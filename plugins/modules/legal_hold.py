#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: legal_hold
short_description: Declare sessions whose keys must stay
description:
  - While a hold covers a session, nobody can erase its keys.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  sessions:
    description:
      - Which sessions it covers. With none of these options given, V({}), all of them.
    type: dict
    suboptions:
      targets:
        description:
          - Those on these targets.
        type: list
        elements: str
      from:
        description:
          - Those open at or after this date or time.
        type: str
      to:
        description:
          - Those open at or before this date or time.
        type: str
"""

EXAMPLES = r"""
- name: October's sessions on orders stay readable
  trailgate.gateway.legal_hold:
    url: unix:///var/lib/trailgate/admin.sock
    name: case-17
    sessions:
      targets: [orders]
      from: "2026-10-01"
      to: "2026-11-01"
"""

RETURN = r"""
object:
  description:
    - The legal hold as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: legal_hold
    name: case-17
    version: 1
    managed_by: ansible
    document:
      legal_hold: case-17
      sessions:
        targets:
        - orders
        from: '2026-10-01'
        to: '2026-11-01'
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "sessions": {
        "type": "dict",
        "options": {
            "targets": {"type": "list", "elements": "str"},
            "from": {"type": "str"},
            "to": {"type": "str"},
        },
    },
}


def main():
    module = object_module("legal_hold", FIELDS, needed=["sessions"])
    run_object(module, "legal_hold", document_of(module.params, FIELDS))


if __name__ == "__main__":
    main()
