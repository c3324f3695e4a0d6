#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: session_info
short_description: Read which sessions are open
description:
  - The sessions that are open on a gateway now, with the whole chain from the person to the agent.
  - Without a right on the gateway, a token shows its own sessions and those of the agents below it.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.attributes_info
options:
  target:
    description:
      - Only sessions on this target.
    type: str
  origin:
    description:
      - Only sessions whose chain begins with this person or workload.
    type: str
  session:
    description:
      - Only the session of this id.
    type: str
"""

EXAMPLES = r"""
- name: Who is on the orders database
  trailgate.gateway.session_info:
    url: unix:///var/lib/trailgate/admin.sock
    target: orders
  register: open_sessions

- name: Say it
  ansible.builtin.debug:
    msg: "{{ open_sessions.sessions | map(attribute='chain') | list }}"
"""

RETURN = r"""
sessions:
  description: The open sessions.
  returned: success
  type: list
  elements: dict
  sample:
    - id: mfqwcylbmfqwcylbmfqwcylbmf
      target: orders
      protocol: postgresql
      user: app
      origin: alice
      chain: [alice, planner, reader]
      state: open
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trailgate.gateway.plugins.module_utils.gateway import CONNECTION, Gateway, GatewayError

FILTERS = {"target": "target", "origin": "origin", "session": "id"}


def main():
    spec = dict(CONNECTION)
    spec.update({name: {"type": "str"} for name in FILTERS})
    module = AnsibleModule(spec, supports_check_mode=True)
    try:
        sessions = Gateway(module.params).call("GET", "/api/v1/sessions")
    except GatewayError as error:
        module.fail_json(msg=str(error), status=error.status)
    for option, field in FILTERS.items():
        wanted = module.params[option]
        if wanted is not None:
            sessions = [one for one in sessions if one[field] == wanted]
    module.exit_json(changed=False, sessions=sessions)


if __name__ == "__main__":
    main()
