# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that a statement changes. One that it does not name, or that has no name a pattern
could match, is `?`: no pattern but `*` allows it, and any pattern in its place denies it."""

from __future__ import annotations

from typing import Any

from pglast import ast, enums

from gateway.policy.languages.sql.analysis import UNKNOWN, Name
from gateway.policy.languages.sql.kinds import ADMIN, SCHEMA
from gateway.policy.languages.sql.tree import words

_SLOTS = ("relation", "into", "view", "sequence", "table", "typevar", "base")
_NAMES = ("funcname", "defnames", "typeName", "domainname", "opfamilyname", "opclassname")
_OWN_PART = (  # named behind the relation that they belong to
    enums.ObjectType.OBJECT_COLUMN,
    enums.ObjectType.OBJECT_TRIGGER,
    enums.ObjectType.OBJECT_POLICY,
    enums.ObjectType.OBJECT_RULE,
    enums.ObjectType.OBJECT_TABCONSTRAINT,
)
_SCHEMALESS = (
    enums.ObjectType.OBJECT_DATABASE,
    enums.ObjectType.OBJECT_ROLE,
    enums.ObjectType.OBJECT_TABLESPACE,
    enums.ObjectType.OBJECT_FDW,
    enums.ObjectType.OBJECT_FOREIGN_SERVER,
    enums.ObjectType.OBJECT_LANGUAGE,
    enums.ObjectType.OBJECT_EVENT_TRIGGER,
    enums.ObjectType.OBJECT_PUBLICATION,
    enums.ObjectType.OBJECT_SUBSCRIPTION,
    enums.ObjectType.OBJECT_ACCESS_METHOD,
    enums.ObjectType.OBJECT_PARAMETER_ACL,
)
_CATALOGUE = Name("pg_catalog", UNKNOWN)
"""What a statement on an object without a schema (a role, a database) changes."""
_ANY = Name(UNKNOWN, UNKNOWN)


def relations(root: Any) -> list[Any]:
    """The RangeVars in the places where a statement names the relation that it changes."""
    if isinstance(root, ast.CopyStmt) and not root.is_from:
        return []
    if isinstance(root, ast.SelectStmt):
        return [root.intoClause.rel] if root.intoClause else []
    if isinstance(root, ast.TruncateStmt):
        return list(root.relations or ())
    found = [getattr(root, slot, None) for slot in _SLOTS]
    found = [
        getattr(node, "rel", None) or getattr(node, "relation", None) or node for node in found
    ]
    return [node for node in found if isinstance(node, ast.RangeVar)]


def defined(root: Any) -> list[Name]:
    """What else a statement on the schema or the server changes, by name."""
    if isinstance(root, ast.CreateSchemaStmt):
        return [Name(root.schemaname or UNKNOWN, UNKNOWN)]
    if isinstance(root, ast.ImportForeignSchemaStmt):
        return [Name(root.local_schema or UNKNOWN, UNKNOWN)]
    if (
        isinstance(root, ast.ReindexStmt)
        and root.kind == enums.ReindexObjectType.REINDEX_OBJECT_SCHEMA
    ):
        return [Name(root.name or UNKNOWN, UNKNOWN)]
    sort = _sort(root)
    if relations(root):
        return []
    if isinstance(root, ast.DropStmt | ast.GrantStmt):
        in_schema = (
            getattr(root, "targtype", None) == enums.GrantTargetType.ACL_TARGET_ALL_IN_SCHEMA
        )
        sort = enums.ObjectType.OBJECT_SCHEMA if in_schema else sort
        return [_object(item, sort) for item in root.objects or ()]
    if sort is not None:
        item = getattr(root, "object", None) or getattr(root, "func", None)
        return [_object(item, sort)]
    for slot in _NAMES:
        if found := words(getattr(root, slot, None)):
            return [_name(found)]
    return []


def fallback(kind: str, root: Any) -> list[Name]:
    """For a statement on the schema or the server in which no object was found."""
    if kind in ("grant", "vacuum", "analyze", "cluster", "reindex", "drop_owned", "reassign_owned"):
        return [_CATALOGUE] if isinstance(root, ast.GrantRoleStmt) else [_ANY]
    if kind in SCHEMA:
        return [_ANY]
    return [_CATALOGUE] if kind in ADMIN else []


def _sort(root: Any) -> Any:
    for slot in ("removeType", "objtype", "objectType", "renameType"):
        if (found := getattr(root, slot, None)) is not None:
            return found
    return None


def _object(item: Any, sort: Any) -> Name:
    if sort in _SCHEMALESS:
        return _CATALOGUE
    if isinstance(item, ast.RangeVar):
        return Name(item.schemaname or "", item.relname or UNKNOWN)
    found = words(getattr(item, "objname", None) or getattr(item, "names", None) or item)
    if sort == enums.ObjectType.OBJECT_SCHEMA:
        return Name(found[-1], UNKNOWN) if found else _ANY
    if sort in _OWN_PART:
        found = found[:-1]
    return _name(found) if found else _ANY


def _name(found: list[str]) -> Name:
    return Name(found[-2] if len(found) > 1 else "", found[-1])
