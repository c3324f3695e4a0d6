# SPDX-License-Identifier: GPL-3.0-or-later
"""What a statement does to its session: names and settings that it changes, texts that it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pglast import ast, enums

TRACKED = frozenset(
    {"search_path", "client_encoding", "standard_conforming_strings"}
    | {"role", "session_authorization"}
)
# Settings that change who one is, what a text means to the parser, what code is loaded, or which
# rows row security hides. SET of any other is what ordinary clients do.
_GRAVE = frozenset(
    {"role", "session_authorization", "standard_conforming_strings", "row_security"}
    | {"session_replication_role", "local_preload_libraries", "session_preload_libraries"}
    | {
        "dynamic_library_path",
        "allow_system_table_mods",
        "backslash_quote",
        "escape_string_warning",
    }
    | {"transform_null_equals", "lo_compat_privileges", "zero_damaged_pages", "client_encoding"}
)
_PLAIN = (
    ast.TransactionStmt,
    ast.VariableShowStmt,
    ast.DeallocateStmt,
    ast.ClosePortalStmt,
    ast.ListenStmt,
    ast.UnlistenStmt,
    ast.ConstraintsSetStmt,
    ast.DiscardStmt,
)


def harmless(node: Any) -> bool:
    """True for a session statement that any allow on a target includes."""
    if isinstance(node, ast.VariableSetStmt):
        name = (node.name or "").lower()
        # A dotted name belongs to an extension, which may read it as anything.
        if name == "client_encoding" and _value(node).upper() in ("UTF8", "UTF-8", "UNICODE"):
            return True
        if name == "standard_conforming_strings" and _value(node).lower() in ("on", "true"):
            return True
        if name == "row_security" and _value(node).lower() == "off":
            return True  # it makes a query fail where rows would be hidden (pg_dump)
        return name not in _GRAVE and "." not in name
    return isinstance(node, _PLAIN)


def plain_set_config(call: Any) -> bool:
    """True for set_config of a setting that is a constant here and does no harm (pg_dump)."""
    words = [part.sval for part in call.funcname]
    if words[-1] != "set_config" or words[:-1] not in ([], ["pg_catalog"]) or not call.args:
        return False
    name = getattr(getattr(call.args[0], "val", None), "sval", None)
    return bool(name) and name.lower() not in _GRAVE and "." not in name


def needed(node: Any) -> str:
    """The fact that holds the text which this statement really runs; empty if none."""
    if isinstance(node, ast.ExecuteStmt):
        return f"prepared:{node.name}"
    if isinstance(node, ast.FetchStmt):
        return f"cursor:{node.portalname}"
    return ""


def declared(node: Any, written: Callable[[Any], str]) -> list[tuple[str, str, str]]:
    """(kind, name, text) of each change; see gateway.model.Declared."""
    if isinstance(node, ast.PrepareStmt):
        return [("prepare", node.name, written(node.query))]
    if isinstance(node, ast.DeallocateStmt):
        return [("deallocate", node.name or "", "")]
    if isinstance(node, ast.DeclareCursorStmt):
        return [("cursor", node.portalname, written(node.query))]
    if isinstance(node, ast.ClosePortalStmt):
        return [("close_cursor", node.portalname or "", "")]
    if isinstance(node, ast.DiscardStmt):
        return [("discard", "ALL" if node.target == enums.DiscardMode.DISCARD_ALL else "part", "")]
    if isinstance(node, ast.VariableSetStmt):
        return _set(node)
    return _set_config(node)


def _set(node: Any) -> list[tuple[str, str, str]]:
    if node.kind == enums.VariableSetKind.VAR_RESET_ALL:
        return [("setting", name, "") for name in sorted(TRACKED)]
    name = (node.name or "").lower()
    return [("setting", name, _value(node))] if name in TRACKED else []


def _value(node: Any) -> str:
    """The new value; empty where the text does not give it (RESET, DEFAULT)."""
    values = [getattr(getattr(a, "val", None), "sval", None) for a in node.args or ()]
    return ", ".join(values) if values and None not in values else ""


def _set_config(root: Any) -> list[tuple[str, str, str]]:
    """Any set_config, wherever it stands: the settings it may change are not known afterwards."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple | list):
            waiting.extend(node)
        elif isinstance(node, ast.Node):
            if isinstance(node, ast.FuncCall) and node.funcname[-1].sval == "set_config":
                return [("setting", name, "") for name in sorted(TRACKED)]
            waiting.extend(getattr(node, slot) for slot in node.__slots__)
    return []
