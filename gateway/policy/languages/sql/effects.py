# SPDX-License-Identifier: GPL-3.0-or-later
"""What a statement does to its session: names and settings that it changes, texts that it runs."""

from __future__ import annotations

from typing import Any

import pglast
from pglast import ast, enums

from gateway.policy.languages.sql.tree import everything, words

TRACKED = frozenset(
    {"search_path", "client_encoding", "standard_conforming_strings"}
    | {"role", "session_authorization"}
)
# Settings that change who one is, what a text means to the parser, what code is loaded, or which
# rows row security hides. SET of any other is what ordinary clients do.
_GRAVE = frozenset(
    {"role", "session_authorization", "standard_conforming_strings", "row_security"}
    | {"session_replication_role", "local_preload_libraries", "session_preload_libraries"}
    | {"dynamic_library_path", "allow_system_table_mods", "backslash_quote"}
    | {"escape_string_warning", "transform_null_equals", "lo_compat_privileges"}
    | {"zero_damaged_pages", "client_encoding"}
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
_TWO_PHASE = (
    enums.TransactionStmtKind.TRANS_STMT_PREPARE,
    enums.TransactionStmtKind.TRANS_STMT_COMMIT_PREPARED,
    enums.TransactionStmtKind.TRANS_STMT_ROLLBACK_PREPARED,
)
_ENDS = (
    enums.TransactionStmtKind.TRANS_STMT_COMMIT,
    enums.TransactionStmtKind.TRANS_STMT_ROLLBACK,
    enums.TransactionStmtKind.TRANS_STMT_ROLLBACK_TO,
    *_TWO_PHASE,
)
NOWHERE = "pg_catalog"
"""The search_path of somebody who looks nowhere: pg_catalog is searched always."""


def is_two_phase(node: Any) -> bool:
    """PREPARE TRANSACTION and what ends such a one, which may be another session's."""
    return node.kind in _TWO_PHASE


def ends_transaction(node: Any) -> bool:
    """True where settings may get the values back that they had before."""
    return isinstance(node, ast.TransactionStmt) and node.kind in _ENDS


def harmless(node: Any) -> bool:
    """True for a session statement that any allow on a target includes."""
    if isinstance(node, ast.VariableSetStmt):
        name, value = (node.name or "").lower(), (_value(node) or "").lower()
        if name == "client_encoding" and value in ("utf8", "utf-8", "unicode"):
            return True
        if name == "standard_conforming_strings" and value in ("on", "true"):
            return True
        if name == "row_security" and value == "off":
            return True  # it makes a query fail where rows would be hidden (pg_dump)
        # A dotted name belongs to an extension, which may read it as anything.
        return name not in _GRAVE and "." not in name
    if isinstance(node, ast.TransactionStmt):
        return not is_two_phase(node)
    return isinstance(node, _PLAIN)


def plain_set_config(call: Any) -> bool:
    """True for set_config of a setting that is a constant here and does no harm (pg_dump)."""
    name = _constant_name(call)
    return bool(name) and name not in _GRAVE and "." not in name


def updates_settings(node: Any) -> bool:
    """True for an UPDATE of pg_settings, whose rule calls set_config."""
    return bool(node.relation.relname == "pg_settings")


def needed(node: Any) -> str:
    """The fact that holds the text which this statement really runs; empty if none."""
    if isinstance(node, ast.ExecuteStmt):
        return f"prepared:{node.name}"
    if isinstance(node, ast.FetchStmt):
        return f"cursor:{node.portalname}"
    return ""


def declared(node: Any, text: str) -> list[tuple[str, str, str]]:
    """(kind, name, text) of each change, see `Analysis.declares`. `text`: the statement's own."""
    if isinstance(node, ast.PrepareStmt):
        return [("prepare", node.name or "", _behind(text, "AS"))]
    if isinstance(node, ast.DeallocateStmt):
        return [("deallocate", node.name or "", "")]
    if isinstance(node, ast.DeclareCursorStmt):
        return [("cursor", node.portalname or "", _behind(text, "FOR"))]
    if isinstance(node, ast.ClosePortalStmt):
        return [("close_cursor", node.portalname or "", "")]
    if isinstance(node, ast.DiscardStmt):
        return [("discard", "ALL" if node.target == enums.DiscardMode.DISCARD_ALL else "part", "")]
    if isinstance(node, ast.VariableSetStmt):
        return _set(node)
    return _by_code(node)


def _behind(text: str, word: str) -> str:
    """What stands behind the first reserved `word` outside parentheses: the very text that runs."""
    depth = 0
    for token in pglast.scan(text):
        raw = text[token.start : token.end + 1]
        depth += (raw == "(") - (raw == ")")
        if depth == 0 and token.kind == "RESERVED_KEYWORD" and raw.upper() == word:
            return text[token.end + 1 :].strip()
    raise ValueError(f"no {word}")


def _set(node: Any) -> list[tuple[str, str, str]]:
    if node.kind == enums.VariableSetKind.VAR_RESET_ALL:  # which leaves the role as it is
        return [("reset", "search_path", ""), *_lost("client_encoding")]
    name = (node.name or "").lower()
    if name not in TRACKED:
        return []
    if name == "search_path" and node.kind != enums.VariableSetKind.VAR_SET_VALUE:
        current = node.kind == enums.VariableSetKind.VAR_SET_CURRENT
        return _lost(name) if current else [("reset", name, "")]
    if name != "search_path":
        return [("setting", name, _value(node) or "")]
    return [("local" if node.is_local else "setting", name, _path(node))]


def _lost(*names: str) -> list[tuple[str, str, str]]:
    return [("setting", name, "") for name in names]


def _constants(node: Any) -> list[str] | None:
    values = [getattr(getattr(a, "val", None), "sval", None) for a in node.args or ()]
    return None if not values or None in values else [str(value) for value in values]


def _value(node: Any) -> str | None:
    """The new value; None where the text does not give it (RESET, DEFAULT)."""
    values = _constants(node)
    return None if values is None else ", ".join(values)


def _path(node: Any) -> str:
    """As a list that scope_of reads: SET takes each value for one name, whatever stands in it."""
    values = _constants(node)
    if values is None:
        return ""
    quoted = ['"' + value.replace('"', '""') + '"' for value in values if value]
    return ", ".join(quoted) or NOWHERE


def _constant_name(call: Any) -> str:
    found = words(call.funcname)
    if found[-1:] != ["set_config"] or found[:-1] not in ([], ["pg_catalog"]) or not call.args:
        return ""
    return (_constant(call.args[0]) or "").lower()


def _constant(node: Any) -> str | None:
    value = getattr(getattr(node, "val", None), "sval", None)
    return None if value is None else str(value)


def _by_code(root: Any) -> list[tuple[str, str, str]]:
    """Settings that code changes: set_config anywhere, DO, CALL, and UPDATE of pg_settings."""
    if isinstance(root, ast.DoStmt | ast.CallStmt):
        return _lost(*sorted(TRACKED))
    found: list[tuple[str, str, str]] = []
    for node in everything(root):
        if isinstance(node, ast.UpdateStmt) and updates_settings(node):
            found += _lost(*sorted(TRACKED))
        elif isinstance(node, ast.FuncCall) and words(node.funcname)[-1:] == ["set_config"]:
            found += _set_config(node)
    return found


def _set_config(call: Any) -> list[tuple[str, str, str]]:
    name = _constant_name(call)
    if not name:
        return _lost(*sorted(TRACKED))
    if name not in TRACKED:
        return []
    value = _constant(call.args[1]) if len(call.args) > 1 else None
    if name != "search_path" or value is None:
        return _lost(name)
    local = getattr(getattr(call.args[-1], "val", None), "boolval", True)
    return [("local" if local else "setting", name, value.strip() or NOWHERE)]
