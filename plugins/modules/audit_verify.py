#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: audit_verify
short_description: Verify a record offline
description:
  - Verifies the record in a folder or a bucket with the C(trailgate) command on the host, without any gateway.
  - Fails if the record has a defect, or cannot be checked.
version_added: 0.1.0
author:
  - The Trailgate authors (@trailgate)
requirements:
  - the command C(trailgate) on the host
attributes:
  check_mode:
    support: full
    description: The module only reads.
  diff_mode:
    support: N/A
    description: The module changes nothing.
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
  keys:
    description:
      - Where the wrapped keys are, if C(README.json) in the record does not say it.
    type: str
  identity:
    description:
      - The auditor's private key. With it every payload is opened and checked.
    type: path
  trust:
    description:
      - The trust file, got from outside the record. Without it the record is only checked against itself.
    type: path
  session:
    description:
      - Verify only this session, by the start of its id.
    type: str
  since:
    description:
      - Verify only sessions that ended at or after this time, a date or RFC 3339, such as V(2026-11-24T08:00:00Z).
    type: str
  until:
    description:
      - Verify only sessions that began at or before this time. A date means its whole day, in UTC.
    type: str
  endpoint_url:
    description:
      - Another S3 endpoint than AWS.
    type: str
  region:
    description:
      - The region of the bucket.
    type: str
  fail_on_defect:
    description:
      - If V(false), a record with defects does not fail the task; look at C(verdict).
    type: bool
    default: true
  executable:
    description:
      - The command, by name or path.
    type: str
    default: trailgate
"""

EXAMPLES = r"""
- name: Verify a day's evidence in the bucket
  trailgate.gateway.audit_verify:
    data: s3://acme-trailgate-evidence
    identity: /home/auditor/identity
    since: "2026-11-24"
    until: "2026-11-25"
"""

RETURN = r"""
verdict:
  description: What C(trailgate verify) says, as its documentation has it.
  returned: success
  type: dict
  sample:
    ok: true
    trust: none
    content: opened
    defects: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trailgate.gateway.plugins.module_utils.command import (
    RECORD,
    executable,
    json_of,
    record_options,
)

NARROWING = ("trust", "session", "since", "until")


def main():
    spec = dict(RECORD)
    spec["trust"] = {"type": "path"}
    spec.update({name: {"type": "str"} for name in ("session", "since", "until")})
    spec["fail_on_defect"] = {"type": "bool", "default": True}
    module = AnsibleModule(spec, supports_check_mode=True)
    words = [executable(module), "verify", module.params["data"], "-o", "json"]
    words += record_options(module.params)
    for name in NARROWING:
        if module.params[name] is not None:
            words += ["--" + name, module.params[name]]
    code, out, err = module.run_command(words)
    verdict = json_of(module, out, err)
    sound = code == 0 or (code == 1 and not module.params["fail_on_defect"])
    if not sound:
        first = (verdict["defects"] or [{"object": module.params["data"], "detail": err.strip()}])[0]
        module.fail_json(msg="not sound: %s %s" % (first["object"], first["detail"]), verdict=verdict)
    module.exit_json(changed=False, verdict=verdict)


if __name__ == "__main__":
    main()
