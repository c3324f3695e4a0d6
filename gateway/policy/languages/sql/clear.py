# SPDX-License-Identifier: GPL-3.0-or-later
"""A statement without its values: keywords, operators, and names that the parse tree gives to
relations, columns and functions; everything else is `?`, comments are left out."""

from __future__ import annotations

from typing import Any

import pglast
from pglast import ast

from gateway.policy.languages.sql.tree import everything, words


def rebuild(text: str, statements: Any) -> str:
    """The text from its tokens, with nothing in it that a client could have hidden there."""
    named = {name for node in everything(statements) for name in _of(node)}
    found = []
    for token in pglast.scan(text):
        if token.name in ("SQL_COMMENT", "C_COMMENT"):
            continue
        raw = text[token.start : token.end + 1]
        found.append(_word(token, raw, named))
    return " ".join(found)


def _word(token: Any, raw: str, named: set[str]) -> str:
    if token.kind != "NO_KEYWORD":
        return raw.upper() if raw.replace("_", "").isalpha() else "?"
    if token.name == "IDENT":
        folded = raw[1:-1].replace('""', '"') if raw.startswith('"') else raw.lower()
        return raw if folded in named else "?"
    # Operators and punctuation: no letter, digit or quote can stand in one.
    if raw and not any(c.isalnum() or c in "'\"$" or ord(c) > 126 for c in raw):
        return raw
    return "?"


def _of(node: Any) -> list[str]:
    if isinstance(node, ast.RangeVar):
        return [word for word in (node.schemaname, node.relname) if word]
    if isinstance(node, ast.ColumnRef):
        return [str(part.sval) for part in node.fields or () if isinstance(part, ast.String)]
    if isinstance(node, ast.FuncCall):
        return words(node.funcname)
    if isinstance(node, ast.ColumnDef):
        return [node.colname] if node.colname else []
    if isinstance(node, ast.InsertStmt):
        return [item.name for item in node.cols or () if item.name]
    if isinstance(node, ast.UpdateStmt):
        return [item.name for item in node.targetList or () if item.name]
    return []
