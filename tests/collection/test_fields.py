# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules' options against what the API's OpenAPI document says of each object."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
import yaml

from gateway.config.schema import document_schema
from gateway.declare.orders import ALL_KINDS
from gateway.policy import documents
from tests.collection.stage import ROOT

MODULES = ROOT / "plugins" / "modules"
SPELT = {
    "credential": {"secret_file": "secret", "update_secret": None},
    "issuer": {
        "issuer_url": "url",
        "issuer_ca_path": "ca_path",
        "client_secret_file": "client_secret",
    },
}
"""Options that are not called as the field is, because the name is taken or a secret is given."""
POLICY = documents._TOP
"""Members of a policy, whose schema is not one of the settings'."""


def constant(module: str, name: str) -> dict[str, Any]:
    """A dict of the module's, without loading it: only Ansible can."""
    for node in ast.parse((MODULES / f"{module}.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return dict(ast.literal_eval(node.value))
    return {}


def options(module: str) -> dict[str, Any]:
    """Its own options, as its argument_spec has them."""
    return {**constant(module, "FIELDS"), **constant(module, "SECRET")}


def documented(module: str) -> dict[str, Any]:
    text = (MODULES / f"{module}.py").read_text()
    found = re.search(r'^DOCUMENTATION = r"""\n(.*?)^"""', text, re.S | re.M)
    assert found is not None
    return dict(yaml.safe_load(found[1])["options"])


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that is given."""
    given = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return dict(given[0]) if given else schema


def assert_same(at: str, spec: dict[str, Any], fields: dict[str, Any]) -> None:
    """Options and fields by name: the same names, choices, and so on inside of them."""
    assert set(spec) == set(fields), at
    for name, option in spec.items():
        schema = plain(fields[name])
        if schema.get("type") == "array":
            schema = plain(schema["items"])
        choices = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
        assert option.get("choices") == choices, f"{at}.{name}"
        if "options" in option and "properties" in schema:
            assert_same(f"{at}.{name}", option["options"], schema["properties"])
            needed = {key for key, one in option["options"].items() if one.get("required")}
            assert needed <= set(schema["required"]), f"{at}.{name}"


def assert_documented(at: str, spec: dict[str, Any], told: dict[str, Any]) -> None:
    assert set(spec) == set(told), at
    for name, option in spec.items():
        for key in ("type", "choices", "elements", "default", "required"):
            assert option.get(key) == told[name].get(key), f"{at}.{name}.{key}"
        assert_documented(
            f"{at}.{name}", option.get("options", {}), told[name].get("suboptions", {})
        )


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_module_has_the_fields_of_its_object_and_documents_them(kind: str) -> None:
    spec = options(kind)
    fields = dict.fromkeys(POLICY, {}) if kind == "policy" else document_schema(kind)["properties"]
    fields = {name: schema for name, schema in fields.items() if name != kind}
    spelt = SPELT.get(kind, {})
    asked = {spelt.get(name, name): one for name, one in spec.items() if name != "update_secret"}
    if kind == "policy":
        assert set(asked) == set(fields)
    else:
        assert_same(kind, asked, fields)
    assert_documented(kind, spec, documented(kind))


def test_every_kind_has_its_module_and_the_group_names_them_all() -> None:
    there = {path.stem for path in MODULES.glob("*.py")}
    assert set(ALL_KINDS) <= there
    group = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]["all"]
    assert set(group) == there


def test_gateway_info_reads_every_kind() -> None:
    tree = ast.parse((MODULES / "gateway_info.py").read_text())
    (listed,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "KINDS"
    ]
    assert set(listed) == set(ALL_KINDS)
    assert documented("gateway_info")["gather"]["choices"] == listed
