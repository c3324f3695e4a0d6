# SPDX-License-Identifier: GPL-3.0-or-later
"""Walking the parser's tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast


def children(node: Any) -> Iterator[Any]:
    """The nodes directly below, in the order of the text."""
    for slot in node.__slots__:
        waiting = [getattr(node, slot)]
        while waiting:
            value = waiting.pop()
            if isinstance(value, ast.Node):
                yield value
            elif isinstance(value, tuple | list):
                waiting.extend(reversed(value))


def everything(root: Any) -> Iterator[Any]:
    """`root` and all nodes below it."""
    waiting = list(root) if isinstance(root, tuple | list) else [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))


def words(parts: Any) -> list[str]:
    """The words of a qualified name as the parser gives it; empty for anything else."""
    if not isinstance(parts, tuple | list):
        parts = (parts,)
    found = [getattr(part, "sval", None) for part in parts]
    return [] if None in found else [str(word) for word in found]
