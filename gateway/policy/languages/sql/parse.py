# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's parser over one text. Only the child process calls this: a text may kill it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pglast
from pglast import ast
from pglast.stream import RawStream

from gateway.policy.languages.sql.analysis import Analysis, Name, Unit
from gateway.policy.languages.sql.clear import rebuild
from gateway.policy.languages.sql.effects import declared, harmless, needed, plain_set_config
from gateway.policy.languages.sql.kinds import kind_of

MOST_TEXT = 1 << 20
"""Bytes. A longer text is not analysed, which denies it."""
_DML = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)


def analyse(text: str) -> Analysis:
    """What `text` does. Never raises for what a text may hold: then `problem` says why."""
    if "\0" in text or len(text.encode("utf-8", "replace")) > MOST_TEXT:
        return _unread(text, "the text holds NUL or is over 1 MiB")
    try:
        statements = pglast.parse_sql(text)
    except pglast.parser.ParseError as exc:
        return _unread(text, f"the parser says: {exc.args[0]}")
    units: list[Unit] = []
    declares: list[tuple[str, str, str]] = []
    for raw in statements:
        units += _units(raw.stmt)
        declares += declared(raw.stmt, lambda node: str(RawStream()(node)))
    clear = rebuild(text, statements)
    shape = hashlib.sha256(clear.encode()).hexdigest()[:16]
    return Analysis(tuple(units), tuple(declares), clear, shape)


def _unread(text: str, problem: str) -> Analysis:
    return Analysis(clear=f"unparsed ({len(text)} characters)", problem=problem)


def children(node: Any) -> Iterator[Any]:
    """The nodes directly below."""
    for slot in node.__slots__:
        waiting = [getattr(node, slot)]
        while waiting:
            value = waiting.pop()
            if isinstance(value, ast.Node):
                yield value
            elif isinstance(value, tuple | list):
                waiting.extend(reversed(value))


def _units(top: Any) -> list[Unit]:
    """One for the statement, one for each writing part and each statement inside it."""
    units = []
    waiting = [(top, frozenset[str]())]
    while waiting:
        root, ctes = waiting.pop()
        builder = _Builder(root, ctes)
        units.append(builder.build())
        waiting += builder.inner
    return units


class _Builder:
    """Collects the objects of one unit; statements inside it go to `inner`."""

    def __init__(self, root: Any, ctes: frozenset[str]) -> None:
        self.root = root
        self.inner: list[tuple[Any, frozenset[str]]] = []
        self.ctes = ctes
        self.reads: dict[Name, None] = {}
        self.writes: dict[Name, None] = {}
        self.functions: dict[Name, None] = {}
        self.flags: set[str] = set()

    def build(self) -> Unit:
        kind = _kind(self.root)
        target = self._target()
        waiting = _below(self.root, self.ctes)
        while waiting:
            node, ctes = waiting.pop()
            if any(node is known for known in target):  # == ignores the place
                continue
            if self._starts_unit(node, kind):
                self.inner.append((node, ctes))
                continue
            self._see(node, ctes, kind)
            waiting += _below(node, ctes)
        self._flag()
        return Unit(
            kind,
            tuple(self.reads),
            tuple(self.writes),
            tuple(self.functions),
            frozenset(self.flags),
            harmless(self.root),
            needed(self.root),
        )

    def _starts_unit(self, node: Any, kind: str) -> bool:
        if isinstance(node, _DML):
            return True
        outer = (ast.ExplainStmt, ast.PrepareStmt, ast.DeclareCursorStmt, ast.CreateSchemaStmt)
        return isinstance(self.root, outer) and kind_of(type(node).__name__) != "unknown"

    def _target(self) -> list[Any]:
        """Relations that this statement changes; noted as writes, and not seen again as reads."""
        root = self.root
        found = [getattr(root, slot, None) for slot in ("relation", "into", "view", "sequence")]
        found = [getattr(node, "rel", None) or node for node in found if node is not None]
        if isinstance(root, ast.CopyStmt) and not root.is_from:
            found = []
        if isinstance(root, ast.SelectStmt):
            found = [root.intoClause.rel] if root.intoClause else []
        if isinstance(root, ast.TruncateStmt | ast.LockStmt):
            found = list(root.relations or root.rels or ()) if _is_truncate(root) else []
        found = [node for node in found if isinstance(node, ast.RangeVar)]
        for node in found:
            self.writes[_name(node)] = None
        if isinstance(root, ast.DropStmt):
            for item in root.objects or ():
                self._dropped(item)
        # An UPDATE, DELETE or MERGE with a condition, and RETURNING, tell what rows hold.
        if isinstance(root, _DML) and _reveals(root):
            for node in found:
                self.reads[_name(node)] = None
        return found

    def _dropped(self, item: Any) -> None:
        parts = [getattr(p, "sval", "") for p in item] if isinstance(item, tuple) else []
        if parts:
            self.writes[Name(parts[-2] if len(parts) > 1 else "", parts[-1])] = None

    def _see(self, node: Any, ctes: frozenset[str], kind: str) -> None:
        if isinstance(node, ast.RangeVar):
            if node.schemaname or node.relname not in ctes:
                side = self.reads if not _defines(kind) else self.writes
                side[_name(node)] = None
        elif isinstance(node, ast.FuncCall) and not plain_set_config(node):
            self.functions[_qualified(node.funcname)] = None
        elif isinstance(node, ast.A_Expr) and node.name and len(node.name) > 1:
            name = _qualified(node.name)
            if name.schema != "pg_catalog":
                self.functions[name] = None

    def _flag(self) -> None:
        root = self.root
        if isinstance(root, ast.UpdateStmt | ast.DeleteStmt) and root.whereClause is None:
            self.flags.add("unfiltered_write")
        if isinstance(root, ast.TruncateStmt):
            self.flags.add("unfiltered_write")
        if isinstance(root, ast.SelectStmt) and root.limitCount is None and self.reads:
            self.flags.add("no_limit")
        if isinstance(root, ast.DoStmt):
            self.flags |= {"do_block", "dynamic"}
        if isinstance(root, ast.CopyStmt) and root.is_program:
            self.flags.add("copy_program")
        if isinstance(root, ast.CreateFunctionStmt | ast.CallStmt):
            self.flags.add("dynamic")


def _is_truncate(root: Any) -> bool:
    return isinstance(root, ast.TruncateStmt)


def _reveals(root: Any) -> bool:
    return bool(
        getattr(root, "whereClause", None)
        or getattr(root, "returningList", None)
        or getattr(root, "returningClause", None)
        or not isinstance(root, ast.InsertStmt)
    )


def _defines(kind: str) -> bool:
    return kind in ("drop", "alter", "grant", "comment", "vacuum", "cluster", "reindex")


def _kind(root: Any) -> str:
    if isinstance(root, ast.CopyStmt):
        if root.is_program:
            return "copy_program"
        if root.filename:
            return "copy_program"  # a file on the server's own disk: the same danger
        return "copy_from" if root.is_from else "copy_to"
    if isinstance(root, ast.SelectStmt) and root.intoClause is not None:
        return "create"
    if isinstance(root, ast.VariableSetStmt) and (root.name or "") in (
        "role",
        "session_authorization",
    ):
        return "set_role"
    return kind_of(type(root).__name__)


def _below(node: Any, ctes: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
    """The nodes below, each with the WITH names that it can see.

    Without RECURSIVE a WITH query sees only those before it: in `WITH t AS (SELECT * FROM t) ...`
    the inner t is the table.
    """
    clause = getattr(node, "withClause", None)
    if clause is None:
        return [(child, ctes) for child in children(node)]
    every = ctes | {cte.ctename for cte in clause.ctes}
    found = [(child, every) for child in children(node) if child is not clause]
    seen = every if clause.recursive else ctes
    for cte in clause.ctes:
        found.append((cte, seen))
        seen = seen | {cte.ctename}
    return found


def _name(node: Any) -> Name:
    return Name(node.schemaname or "", node.relname)


def _qualified(parts: Any) -> Name:
    words = [str(part.sval) for part in parts]
    return Name(words[-2] if len(words) > 1 else "", words[-1])
