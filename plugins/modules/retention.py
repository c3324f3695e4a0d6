#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: retention
short_description: Declare how long the record is kept
description:
  - For how long sessions and the keys that open them are kept. Keys may go first, which erases what they open while
    every proof still holds.
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
      - For how long the record is kept, in days, such as V(400d).
    type: str
  keys:
    description:
      - For how long its keys are kept; not longer than O(sessions).
    type: str
"""

EXAMPLES = r"""
- name: Keep the record for 400 days, and the keys as long
  trailgate.gateway.retention:
    url: unix:///var/lib/trailgate/admin.sock
    name: default
    sessions: 400d
    keys: 400d
"""

RETURN = r"""
object:
  description:
    - The retention as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: retention
    name: default
    version: 1
    managed_by: ansible
    document:
      retention: default
      sessions: 400d
      keys: 400d
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "sessions": {"type": "str"},
    "keys": {"type": "str", "no_log": False},
}


def main():
    module = object_module("retention", FIELDS, needed=["sessions", "keys"])
    run_object(module, "retention", document_of(module.params, FIELDS))


if __name__ == "__main__":
    main()
