# SPDX-License-Identifier: GPL-3.0-or-later
"""A statement without its values: keywords, operators, and names that the parse tree gives to
relations, columns and functions; everything else is `?`, comments are left out."""

from __future__ import annotations

from typing import Any

import pglast
from pglast import ast


def rebuild(text: str, statements: Any) -> str:
    """The text from its tokens, with nothing in it that a client could have hidden there."""
    named = _names(statements)
    words = []
    for token in pglast.scan(text):
        if token.name in ("SQL_COMMENT", "C_COMMENT"):
            continue
        raw = text[token.start : token.end + 1]
        words.append(_word(token, raw, named))
    return " ".join(words)


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


def _names(statements: Any) -> set[str]:
    named: set[str] = set()
    waiting: list[Any] = [statements]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple | list):
            waiting.extend(node)
        elif isinstance(node, ast.Node):
            named.update(_of(node))
            waiting.extend(getattr(node, slot) for slot in node.__slots__)
    return named


def _of(node: Any) -> list[str]:
    if isinstance(node, ast.RangeVar):
        return [word for word in (node.schemaname, node.relname) if word]
    if isinstance(node, ast.ColumnRef):
        return [part.sval for part in node.fields if isinstance(part, ast.String)]
    if isinstance(node, ast.FuncCall):
        return [part.sval for part in node.funcname]
    if isinstance(node, ast.ColumnDef) and node.colname:
        return [node.colname]
    return []
