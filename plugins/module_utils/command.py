# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `trailgate` command on the host, for what is done with the record offline."""

from __future__ import annotations

import json

RECORD = {
    "data": {"type": "str", "required": True},
    "keys": {"type": "str", "no_log": False},
    "identity": {"type": "path"},
    "endpoint_url": {"type": "str"},
    "region": {"type": "str"},
    "executable": {"type": "str", "default": "trailgate"},
}
"""Where a record is and what opens it, in the modules that read one."""
OPTIONS = ("keys", "identity", "endpoint_url", "region")


def record_options(params):
    """The command's options for where the record is, but for the record itself."""
    given = []
    for name in OPTIONS:
        if params.get(name) is not None:
            given += ["--" + name.replace("_", "-"), str(params[name])]
    return given


def executable(module):
    """The command's path; ends the module where it is not there."""
    return module.get_bin_path(module.params["executable"], required=True)


def json_of(module, text, told):
    """The document that the command printed; ends the module where it printed none."""
    try:
        return json.loads(text)
    except ValueError:
        module.fail_json(msg="trailgate printed no JSON: %s" % (told.strip() or text[:500]))
