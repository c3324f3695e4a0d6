#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: audit_export
short_description: Write a record in a form that other tools read
description:
  - Exports sessions of a record in a folder or a bucket with the C(trailgate) command on the host, without any gateway.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
requirements:
  - the command C(trailgate) on the host
attributes:
  check_mode:
    support: full
    description: Says whether the file would change, and leaves it as it is.
  diff_mode:
    support: none
    description: What is exported may be confidential, so no difference is shown.
  action_group:
    description: Use C(group/trailgate.gateway.all) in C(module_defaults) to set options once.
    support: full
    membership:
      - trailgate.gateway.all
options:
  data:
    description:
      - The record, a folder or V(s3://BUCKET/PREFIX).
    type: str
    required: true
  format:
    description:
      - V(ocsf) and V(jsonl) are of one session or of all, V(asciicast) and V(tlog-proof) of one.
    type: str
    choices: [ocsf, jsonl, asciicast, tlog-proof]
    required: true
  dest:
    description:
      - The file that is written. A new one is readable by its owner alone; one that is there keeps its mode.
    type: path
    required: true
  session:
    description:
      - The session, by the start of its id; V(SESSION:FRAME) for one frame of a V(tlog-proof).
    type: str
  keys:
    description:
      - Where the wrapped keys are, if C(README.json) in the record does not say it.
    type: str
  identity:
    description:
      - The auditor's private key, for what is sealed.
    type: path
  endpoint_url:
    description:
      - Another S3 endpoint than AWS.
    type: str
  region:
    description:
      - The region of the bucket.
    type: str
  executable:
    description:
      - The command, by name or path.
    type: str
    default: trailgate
"""

EXAMPLES = r"""
- name: A day's events for the SIEM
  trailgate.gateway.audit_export:
    data: s3://acme-trailgate-evidence
    format: ocsf
    dest: /srv/siem/trailgate.jsonl
"""

RETURN = r"""
dest:
  description: The file.
  returned: success
  type: str
  sample: /srv/siem/trailgate.jsonl
sha256:
  description: SHA-256 of what was exported.
  returned: success
  type: str
  sample: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trailgate.gateway.plugins.module_utils.command import RECORD, executable, record_options


def main():
    spec = dict(RECORD)
    spec.update(
        format={"type": "str", "choices": ["ocsf", "jsonl", "asciicast", "tlog-proof"], "required": True},
        dest={"type": "path", "required": True},
        session={"type": "str"},
    )
    module = AnsibleModule(spec, supports_check_mode=True)
    dest = module.params["dest"]
    os.umask(0o077)  # atomic_move gives a new file the mode that the umask leaves
    # Beside nothing that others read: what is exported may be confidential.
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as folder:
        exported = os.path.join(folder, "exported")
        _export(module, exported)
        digest = module.sha256(exported)
        changed = not os.path.exists(dest) or module.sha256(dest) != digest
        if changed and not module.check_mode:
            module.atomic_move(exported, dest)
    module.exit_json(changed=changed, dest=dest, sha256=digest)


def _export(module, path):
    words = [executable(module), "audit", "export"]
    if module.params["session"] is not None:
        words.append(module.params["session"])
    words += ["--format", module.params["format"], "--data", module.params["data"], "--out", path]
    code, _out, err = module.run_command(words + record_options(module.params))
    if code != 0:
        module.fail_json(msg="the record was not exported: %s" % err.strip())


if __name__ == "__main__":
    main()
