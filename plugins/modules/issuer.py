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
  - An OpenID provider, a SAML provider or a SPIFFE trust domain whose word on who somebody is the gateway takes, and
    where it finds subject, groups and name.
  - With O(client_id), or with O(kind=saml), people can log in there.
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
      - The issuer's URL (O(url) is the gateway's), exactly as C(iss) in its tokens has it; V(spiffe://NAME) of a trust
        domain, the entity id of a SAML provider.
    type: str
  audience:
    description:
      - The audience that tokens for this gateway have; for SAML, the gateway's entity id there.
    type: str
  kind:
    description:
      - What it is, V(oidc) if nothing is said.
    type: str
    choices: [oidc, saml, spiffe]
  algorithms:
    description:
      - Signature algorithms that are accepted, V(ES256) and V(RS256) if none is given.
    type: list
    elements: str
  claims:
    description:
      - Which claim says what.
    type: dict
    suboptions:
      subject:
        description:
          - The claim with the subject, C(sub) if it is not given.
        type: str
      groups:
        description:
          - The claim with the groups, C(groups) if it is not given.
        type: str
      name:
        description:
          - The claim with a name to show, C(name) if it is not given.
        type: str
      triggered_by:
        description:
          - The claim with the person who started the workload.
        type: str
  subjects:
    description:
      - Whether its tokens are of persons, as they are if nothing is said, or of workloads such as CI jobs.
    type: str
    choices: [person, workload]
  issuer_ca_path:
    description:
      - PEM file on the gateway's host with the CA of the provider's URL. It is not O(ca_path), which is the gateway's
        own.
    type: str
  jwks:
    description:
      - Its keys, where discovery cannot find them.
    type: dict
    suboptions:
      url:
        description:
          - Where they are published.
        type: str
      from:
        description:
          - A file on the gateway's host with them, V(file:PATH).
        type: str
      keys:
        description:
          - The public keys themselves, each a JWK.
        type: list
        elements: dict
  client_id:
    description:
      - OpenID, the gateway's name there.
    type: str
  client_secret_file:
    description:
      - OpenID, a file on the gateway's host that has its secret there. Without one it is a public client.
    type: str
  scopes:
    description:
      - OpenID, what is asked for, C(openid) if nothing is given. C(offline_access) is what many providers give a
        refresh token for.
    type: list
    elements: str
  redirect:
    description:
      - OpenID, where the browser comes back to, if it is not the gateway's own page for that.
    type: str
  metadata_path:
    description:
      - SAML, a file on the gateway's host with the provider's metadata.
    type: str
  sso_url:
    description:
      - SAML, where logins begin, if it is not as the metadata says.
    type: str
  certificate_path:
    description:
      - SAML, PEM file on the gateway's host with the only certificates to trust, if they are not those of the metadata.
    type: str
  session_seconds:
    description:
      - For how many seconds a login holds at most, at least 60; 28800, eight hours, if it is not given.
    type: float
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
    client_id: trailgate

- name: Workloads of the mesh have SPIFFE identities
  trailgate.gateway.issuer:
    url: unix:///var/lib/trailgate/admin.sock
    name: mesh
    kind: spiffe
    issuer_url: spiffe://prod.example.com
    audience: trailgate
    subjects: workload
    jwks:
      url: https://spire.example.com/bundle

- name: People log in with SAML
  trailgate.gateway.issuer:
    url: unix:///var/lib/trailgate/admin.sock
    name: corp-saml
    kind: saml
    issuer_url: https://idp.example.com/saml
    audience: https://gateway.example.com/login/saml/corp-saml/metadata
    sso_url: https://idp.example.com/sso
    certificate_path: /etc/trailgate/idp.pem
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
            "triggered_by": {"type": "str"},
        },
    },
    "subjects": {"type": "str", "choices": ["person", "workload"]},
    "issuer_ca_path": {"type": "str"},
    "kind": {"type": "str", "choices": ["oidc", "saml", "spiffe"]},
    "jwks": {
        "type": "dict",
        "no_log": False,
        "options": {
            "url": {"type": "str"},
            "from": {"type": "str"},
            "keys": {"type": "list", "elements": "dict", "no_log": False},
        },
        "mutually_exclusive": [("url", "from", "keys")],
        "required_one_of": [("url", "from", "keys")],
    },
    "client_id": {"type": "str"},
    "scopes": {"type": "list", "elements": "str"},
    "redirect": {"type": "str"},
    "metadata_path": {"type": "str"},
    "sso_url": {"type": "str"},
    "certificate_path": {"type": "str"},
    "session_seconds": {"type": "float"},
}
SECRET = {"client_secret_file": {"type": "str", "no_log": False}}

# The connection's own options have these names.
RENAMED = {"issuer_url": "url", "issuer_ca_path": "ca_path"}


def main():
    fields = dict(FIELDS)
    fields.update(SECRET)
    module = object_module("issuer", fields, needed=["issuer_url", "audience"])
    document = document_of(module.params, FIELDS)
    for option, field in RENAMED.items():
        if option in document:
            document[field] = document.pop(option)
    if module.params["client_secret_file"] is not None:
        document["client_secret"] = {"from": "file:" + module.params["client_secret_file"]}
    run_object(module, "issuer", document)


if __name__ == "__main__":
    main()
