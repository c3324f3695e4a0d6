# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: token
short_description: A token of its own for an agent
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
description:
  - Exchanges the caller's token for a narrower one in the name of an agent (RFC 8693), one for each term.
  - Whatever is done with it is recorded with the whole chain, and it may never do more than the caller.
  - It is a token of the gateway. No lookup gives a target's secret.
  - Give it to a task in a file, with C(no_log). What stands in C(environment) is seen in the process list and at -vvv.
options:
  _terms:
    description: Names of agents.
    required: true
    type: list
    elements: str
  url:
    description: Where the gateway is, V(https://HOST:PORT).
    type: str
    env:
      - name: TRAILGATE_URL
  token:
    description: The caller's token. Without it, the file named by E(TRAILGATE_TOKEN_FILE) is read.
    type: str
    env:
      - name: TRAILGATE_TOKEN
  ca_path:
    description: A PEM file with the CA that signed the gateway's certificate.
    type: str
    env:
      - name: TRAILGATE_CA_PATH
  validate_certs:
    description: Whether the gateway's certificate is checked.
    type: bool
    default: true
  timeout:
    description: How long an answer may take, in seconds.
    type: int
    default: 15
  targets:
    description: Names of the targets that the agent may reach; all of the caller's, if none is given.
    type: list
    elements: str
  authorization_details:
    description: What the agent may do, as RFC 9396 has it.
    type: list
    elements: dict
  expires_in:
    description: For how many seconds, at most as long as the caller's.
    type: int
"""

EXAMPLES = r"""
- name: A token for the agent reader, on orders alone
  ansible.builtin.copy:
    content: "*:*:*:*:{{ lookup('trailgate.gateway.token', 'reader', targets=['orders'], expires_in=600) }}\n"
    dest: /run/reader/pgpass
    mode: "0600"
  no_log: true

- name: Run a query as the agent
  ansible.builtin.command:
    cmd: psql -h gateway.example.com -p 15432 -U app orders -c 'select count(*) from orders'
  environment:
    PGPASSFILE: /run/reader/pgpass
    PGSSLMODE: verify-full
    PGSSLROOTCERT: /etc/trailgate/ca.pem
"""

RETURN = r"""
_raw:
  description: The tokens, secrets that should stay out of logs, one for each term.
  type: list
  elements: str
  sample: [tg_0123456789abcdefghijklmnopqrstuvwxyzABCDEF]
"""

import json

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.trailgate.gateway.plugins.module_utils.gateway import Gateway, GatewayError

CONNECTION = ("url", "token", "ca_path", "validate_certs", "timeout")
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
}


class LookupModule(LookupBase):
    """Exchanges a token for each term."""

    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        try:
            gateway = Gateway({name: self.get_option(name) for name in CONNECTION})
            return [self._token(gateway, str(name)) for name in terms]
        except GatewayError as error:
            raise AnsibleError("trailgate.gateway.token: %s" % error) from None

    def _token(self, gateway, name):
        form = dict(EXCHANGE, subject_token=gateway.token(), agent_name=name)
        if self.get_option("targets") is not None:
            form["scope"] = " ".join(self.get_option("targets"))
        if self.get_option("authorization_details") is not None:
            form["authorization_details"] = json.dumps(self.get_option("authorization_details"))
        if self.get_option("expires_in") is not None:
            form["expires_in"] = str(self.get_option("expires_in"))
        return gateway.post_form("/oauth/token", form)["access_token"]
