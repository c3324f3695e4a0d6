# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation of the modules shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments by name: connection, and what every object has."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where the gateway is, V(https://HOST:PORT), or V(unix:///PATH) for the admin socket on the gateway's own host.
      - The admin socket is for root and the gateway's own user, and asks for no token.
      - If it is not given, the environment variable E(TRAILGATE_URL) is used.
    type: str
  token:
    description:
      - A gateway token or an OpenID token of somebody whose access objects permit the call.
      - If it is not given, the environment variable E(TRAILGATE_TOKEN) is used, then the file named by
        E(TRAILGATE_TOKEN_FILE).
    type: str
  ca_path:
    description:
      - A PEM file with the CA that signed the gateway's certificate.
      - If it is not given, the environment variable E(TRAILGATE_CA_PATH) is used, then the system's CAs.
    type: path
  validate_certs:
    description:
      - Whether the gateway's certificate is checked. Without it, whoever is in between reads the token.
    type: bool
    default: true
  timeout:
    description:
      - How long an answer may take, in seconds.
    type: int
    default: 15
"""

    OBJECT = r"""
options:
  name:
    description:
      - The object's name.
    type: str
    required: true
  state:
    description:
      - Whether the object is there.
    type: str
    choices: [present, absent]
    default: present
  managed_by:
    description:
      - Who looks after the object. Another one's object is not changed, unless O(adopt=true).
    type: str
    default: ansible
  adopt:
    description:
      - Take the object over from whoever manages it.
    type: bool
    default: false
  if_match:
    description:
      - Change the object only if its version is still the one with this C(etag), as C(object.etag) of an earlier task
        has it. V(*) means only if it is there.
    type: str
"""

    ATTRIBUTES = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Says what would change, as the gateway itself works it out, and changes nothing.
  diff_mode:
    support: full
    description: Shows the object before and after. Secrets are never part of it.
  action_group:
    description: Use C(group/trailgate.gateway.all) in C(module_defaults) to set the connection's options once.
    support: full
    membership:
      - trailgate.gateway.all
"""

    ATTRIBUTES_INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: The module only reads.
  diff_mode:
    support: N/A
    description: The module changes nothing.
  action_group:
    description: Use C(group/trailgate.gateway.all) in C(module_defaults) to set the connection's options once.
    support: full
    membership:
      - trailgate.gateway.all
"""
