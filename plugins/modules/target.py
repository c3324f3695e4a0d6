#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: target
short_description: Declare what is behind the gateway
description:
  - A target is a server that clients reach through the gateway, and the credentials that the gateway signs in there
    with.
  - Who may do what on it is said by M(trailgate.gateway.policy).
  - Options that are not given take the defaults that the gateway has for them.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
extends_documentation_fragment:
  - trailgate.gateway.gateway
  - trailgate.gateway.gateway.object
  - trailgate.gateway.gateway.attributes
options:
  protocol:
    description:
      - The protocol that is spoken with it.
    type: str
    choices: [postgresql]
  address:
    description:
      - Where it is, V(HOST:PORT).
    type: str
  credentials:
    description:
      - Names of credentials; the first is the default.
    type: list
    elements: str
  databases:
    description:
      - Databases that clients may name; the first is the default, V(*) is any, which it is if none is given.
    type: list
    elements: str
  tls:
    description:
      - How the gateway checks the server.
    type: dict
    suboptions:
      mode:
        description:
          - Whether TLS is used, and the certificate checked, which it is if nothing is said (V(verify-full)).
        type: str
        choices: [disable, require, verify-full]
      ca_path:
        description:
          - PEM file on the gateway's host with the CA. Without it the system's CAs are trusted there.
        type: str
      cert_path:
        description:
          - PEM file on the gateway's host with its own certificate.
        type: str
      key_path:
        description:
          - PEM file on the gateway's host with the key of that certificate.
        type: str
      server_name:
        description:
          - The name that the certificate must have, where it is not the address.
        type: str
  listen:
    description:
      - A listener of the target's own, V(HOST:PORT), on which the database field keeps its meaning.
    type: str
  labels:
    description:
      - Labels that policies match.
    type: dict
  clear:
    description:
      - What of a statement stands in the clear in the record.
    type: str
    choices: [default]
  record:
    description:
      - Which answers are recorded, which is those that were delivered.
    type: str
    choices: [delivered]
  direct:
    description:
      - If V(false), a person's own token opens no session there, only an agent's. V(true) if it is not given.
    type: bool
  users:
    description:
      - If V(any), the first credential is used whatever user the client names. Otherwise clients name a credential's
        user.
    type: str
    choices: [credentials, any]
  plain:
    description:
      - If V(true), no TLS is asked of clients; for a listener on loopback only.
    type: bool
  text_limit:
    description:
      - The longest statement, in bytes, at least 1024; 16777216 if it is not given.
    type: int
  scram_iterations_limit:
    description:
      - The most iterations of SCRAM that the server may ask of the gateway, at least 4096; 1000000 if it is not given.
    type: int
  name_sessions:
    description:
      - Whether the session's id stands in front of C(application_name) at the server, which it does if nothing is said.
    type: bool
"""

EXAMPLES = r"""
- name: Put the orders database behind the gateway
  trailgate.gateway.target:
    url: unix:///var/lib/trailgate/admin.sock
    name: orders
    protocol: postgresql
    address: db1.internal:5432
    databases: [orders]
    credentials: [orders-app]
    tls:
      mode: verify-full
      ca_path: /etc/trailgate/db-ca.pem
    labels:
      env: prod

- name: Take it away again
  trailgate.gateway.target:
    url: unix:///var/lib/trailgate/admin.sock
    name: orders
    state: absent
"""

RETURN = r"""
object:
  description:
    - The target as it is now, with its version and who changed it. V(null) once it is gone, and in check mode.
  returned: success
  type: dict
  sample:
    kind: target
    name: orders
    version: 1
    managed_by: ansible
    document:
      target: orders
      protocol: postgresql
      address: db1.internal:5432
      credentials:
      - orders-app
"""

from ansible_collections.trailgate.gateway.plugins.module_utils.objects import document_of, object_module, run_object

FIELDS = {
    "protocol": {"type": "str", "choices": ["postgresql"]},
    "address": {"type": "str"},
    "credentials": {"type": "list", "elements": "str"},
    "databases": {"type": "list", "elements": "str"},
    "tls": {
        "type": "dict",
        "options": {
            "mode": {"type": "str", "choices": ["disable", "require", "verify-full"]},
            "ca_path": {"type": "str"},
            "cert_path": {"type": "str"},
            "key_path": {"type": "str", "no_log": False},
            "server_name": {"type": "str"},
        },
    },
    "listen": {"type": "str"},
    "labels": {"type": "dict"},
    "clear": {"type": "str", "choices": ["default"]},
    "record": {"type": "str", "choices": ["delivered"]},
    "direct": {"type": "bool"},
    "users": {"type": "str", "choices": ["credentials", "any"]},
    "plain": {"type": "bool"},
    "text_limit": {"type": "int"},
    "scram_iterations_limit": {"type": "int"},
    "name_sessions": {"type": "bool"},
}


def main():
    module = object_module("target", FIELDS, needed=["protocol", "address", "credentials"])
    run_object(module, "target", document_of(module.params, FIELDS))


if __name__ == "__main__":
    main()
