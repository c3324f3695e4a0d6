# SPDX-License-Identifier: GPL-3.0-or-later
"""The types of objects as JSON Schema (2020-12), so that what is told of them is what is read."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gateway.config.objects import KINDS
from gateway.config.reading import key_of
from gateway.protocols import discover

Schema = dict[str, Any]
NAME = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$"
_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", Path: "string"}


def schema_of(kind: Any) -> Schema:
    """What a value of a type may be in a document."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (one for one in arguments if one is not type(None))
        return {"anyOf": [schema_of(inner), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if hasattr(kind, "from_node"):
        # Such types read several forms: a text, or a mapping that says where it comes from.
        return {"type": ["string", "object"], **_description(kind)}
    if hasattr(kind, "parse"):
        return {"type": "string", **_description(kind)}
    if dataclasses.is_dataclass(kind):
        return fields_schema(kind)
    return {"type": _PLAIN[kind]}


def fields_schema(*kinds: Any) -> Schema:
    """A mapping with the fields of dataclasses, and no others."""
    properties, required = {}, []
    for kind in kinds:
        hints = get_type_hints(kind)
        for item in dataclasses.fields(kind):
            if not item.init:
                continue
            properties[key_of(item)] = schema_of(hints[item.name])
            if _required(item):
                required.append(key_of(item))
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _description(kind: Any) -> Schema:
    text = (kind.__doc__ or "").strip().partition("\n\n")[0]
    return {"description": " ".join(text.split())} if text else {}


def document_schema(kind: str) -> Schema:
    """A document of a kind. Its path names it, so that kind and name may be left out."""
    if kind == "target":
        forms = []
        for name, protocol in sorted(discover().items()):
            options = [protocol.options] if dataclasses.is_dataclass(protocol.options) else []
            form = fields_schema(KINDS[kind], *options)
            form["properties"]["protocol"] = {"const": name}
            forms.append(form)
        schema: Schema = forms[0] if len(forms) == 1 else {"oneOf": forms}
    else:
        forms = [fields_schema(KINDS[kind])]
        schema = forms[0]
    for form in forms:
        form["required"] = [key for key in form["required"] if key != kind]
        form["properties"][kind] = {"type": "string", "pattern": NAME}
    return {**schema, **_description(KINDS[kind])}
