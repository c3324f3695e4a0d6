# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of objects share: declare one, or take it back; the gateway works out the change."""

from __future__ import annotations

import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trailgate.gateway.plugins.module_utils.gateway import CONNECTION, Gateway, GatewayError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}\Z")
OBJECT = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "managed_by": {"type": "str", "default": "ansible"},
    "adopt": {"type": "bool", "default": False},
    "if_match": {"type": "str"},
}


def plural(kind):
    """Several of a kind, as the API's paths have it."""
    if kind.endswith("y"):
        return kind[:-1] + "ies"
    return kind + ("es" if kind.endswith("s") else "s")


def object_path(kind, name):
    """Where the API has the object. Raises GatewayError for what no object can be called."""
    if not NAME.match(name):
        raise GatewayError("%r is no name" % name, "use letters, digits, '.', '_' and '-', at most 63")
    return "/api/v1/%s/%s" % (plural(kind), name)


def object_module(kind, fields, needed=(), either=(), **more):
    """The AnsibleModule of a kind: `fields` are the object's own; of `needed` all must be given, of `either` one."""
    spec = dict(CONNECTION)
    spec.update(OBJECT)
    spec.update(fields)
    rules = [("state", "present", list(needed))] if needed else []
    rules += [("state", "present", list(either), True)] if either else []
    return AnsibleModule(spec, supports_check_mode=True, required_if=rules, **more)


def document_of(params, fields):
    """The object's own fields that were given, without what is null inside of them."""
    return {name: _given(params[name]) for name in fields if params.get(name) is not None}


def _given(value):
    if isinstance(value, dict):
        return {key: _given(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_given(inner) for inner in value]
    return value


def run_object(module, kind, document):
    """Bring the object to its state, and end the module."""
    try:
        path = object_path(kind, module.params["name"])
        change = _changed(Gateway(module.params), module, path, document)
    except GatewayError as error:
        module.fail_json(msg="%s %s: %s" % (kind, module.params["name"], error), status=error.status)
    result = {"changed": change["changed"], "object": change["object"]}
    if kind == "credential":
        result["secret_changed"] = change["secret"]
    if module._diff:
        result["diff"] = {
            "before_header": "%s %s" % (kind, module.params["name"]),
            "after_header": "%s %s" % (kind, module.params["name"]),
            "before": change["before"] or {},
            "after": change["after"] or {},
        }
    module.exit_json(**result)


def _changed(gateway, module, path, document):
    query = {"managed_by": module.params["managed_by"]}
    if module.params["adopt"]:
        query["adopt"] = "true"
    if module.check_mode:
        query["dry_run"] = "true"
    headers = {"if-match": module.params["if_match"]} if module.params["if_match"] is not None else {}
    if module.params["state"] == "present":
        return gateway.call("PUT", path, query, document, headers)
    try:
        return gateway.call("DELETE", path, query, headers=headers)
    except GatewayError as error:
        if error.status != 404:
            raise
        return {"changed": False, "object": None, "secret": False, "before": None, "after": None}
