# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's parser over one text. Only the child process calls this: a text may kill it."""

from __future__ import annotations

import hashlib
from typing import Any

import pglast
from pglast import ast, enums

from gateway.policy.languages.sql.analysis import Analysis, Name, Unit
from gateway.policy.languages.sql.clear import rebuild
from gateway.policy.languages.sql.effects import (
    declared,
    ends_transaction,
    harmless,
    is_two_phase,
    needed,
    plain_set_config,
    updates_settings,
)
from gateway.policy.languages.sql.kinds import kind_of
from gateway.policy.languages.sql.objects import defined, fallback, relations
from gateway.policy.languages.sql.operators import OPERATORS
from gateway.policy.languages.sql.tree import children, everything, words

MOST_TEXT = 1 << 20
"""Bytes. A longer text is not analysed, which denies it."""
_DML = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_WRAPPERS = (ast.ExplainStmt, ast.PrepareStmt, ast.DeclareCursorStmt, ast.CreateSchemaStmt)
_MERGED = {
    enums.CmdType.CMD_INSERT: "insert",
    enums.CmdType.CMD_UPDATE: "update",
    enums.CmdType.CMD_DELETE: "delete",
}
# What they are given is run as SQL.
_RUNS_TEXT = frozenset(
    "query_to_xml query_to_xmlschema query_to_xml_and_xmlschema table_to_xml schema_to_xml "
    "database_to_xml cursor_to_xml ts_stat ts_rewrite dblink dblink_exec dblink_open "
    "dblink_send_query crosstab connectby".split()
)


def analyse(text: str) -> Analysis:
    """What `text` does. Never raises for what a text may hold: then `problem` says why."""
    if "\0" in text or len(text.encode("utf-8")) > MOST_TEXT:
        return _unread(text, "the text holds NUL or is over 1 MiB")
    try:
        statements = pglast.parse_sql(text)
    except pglast.parser.ParseError as exc:
        return _unread(text, f"the parser says: {exc.args[0]}")
    units: list[Unit] = []
    declares: list[tuple[str, str, str]] = []
    for raw in statements:
        units += _units(raw.stmt)
        declares += declared(raw.stmt, _slice(text, raw))
    clear = rebuild(text, statements)
    shape = hashlib.sha256(clear.encode()).hexdigest()[:16]
    ends = any(ends_transaction(raw.stmt) for raw in statements)
    return Analysis(
        tuple(units),
        tuple(declares),
        clear,
        shape,
        count=len(statements),
        ends=ends,
        by_shape=_by_shape(statements, units, declares),
    )


def _by_shape(statements: Any, units: list[Unit], declares: list[Any]) -> bool:
    """A single plain statement that changes rows or reads them, and nothing of its session.

    A constant says nothing in it of what is done to what, but for two: the setting that set_config
    changes, and LIMIT NULL, so that texts with those words have no shape (gateway/proxy/shapes.py).
    """
    plain = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)
    if len(statements) != 1 or not isinstance(statements[0].stmt, plain) or declares:
        return False
    calls = (node for node in everything(statements) if isinstance(node, ast.FuncCall))
    if any(words(call.funcname)[-1:] in ([], ["set_config"]) for call in calls):
        return False
    return not any(unit.needs or "dynamic" in unit.flags for unit in units)


def _unread(text: str, problem: str) -> Analysis:
    return Analysis(clear=f"unparsed ({len(text)} characters)", problem=problem)


def _slice(text: str, raw: Any) -> str:
    begin: int = raw.stmt_location
    return text[begin : begin + raw.stmt_len] if raw.stmt_len else text[begin:]


def kind(root: Any) -> str:
    """The kind of a statement; see kinds.py for the sets."""
    if isinstance(root, ast.CopyStmt):
        if root.is_program:
            return "copy_program"
        if root.filename:  # on the server's own disk
            return "copy_file"
        return "copy_from" if root.is_from else "copy_to"
    if isinstance(root, ast.SelectStmt) and root.intoClause is not None:
        return "create"
    # A setting's name is taken without regard to case, even a quoted one.
    if isinstance(root, ast.VariableSetStmt) and (root.name or "").lower() in (
        "role",
        "session_authorization",
    ):
        return "set_role"
    if isinstance(root, ast.TransactionStmt) and is_two_phase(root):
        return "two_phase"
    if isinstance(root, ast.VacuumStmt) and not root.is_vacuumcmd:
        return "analyze"
    return kind_of(type(root).__name__)


def _units(top: Any) -> list[Unit]:
    """One for the statement, one for each writing part and each statement inside it."""
    units = []
    waiting = [(top, frozenset[str]())]
    while waiting:
        root, ctes = waiting.pop()
        builder = _Builder(root, ctes)
        units += builder.build()
        waiting += builder.inner
    return units


class _Builder:
    """Collects the objects of one unit; statements inside it go to `inner`."""

    def __init__(self, root: Any, ctes: frozenset[str]) -> None:
        self.root = root
        self.kind = kind(root)
        self.inner: list[tuple[Any, frozenset[str]]] = []
        self.ctes = ctes
        self.reads: dict[Name, None] = {}
        self.writes: dict[Name, None] = {}
        self.functions: dict[Name, None] = {}
        self.locked: dict[Name, None] = {}
        self.flags: set[str] = set()

    def build(self) -> list[Unit]:
        targets = self._targets()
        waiting = _below(self.root, self.ctes)
        if getattr(self.root, "lockingClause", None):
            self._lock(self.root, self.ctes)
        while waiting:
            node, ctes = waiting.pop()
            if any(node is target for target in targets):  # == ignores the place
                continue
            if self._starts_unit(node):
                self.inner.append((node, ctes))
                continue
            self._see(node, ctes)
            waiting += _below(node, ctes)
        for name in () if self.writes else fallback(self.kind, self.root):
            self.writes[name] = None
        self._flag()
        return [self._unit(), *self._besides()]

    def _unit(self) -> Unit:
        return Unit(
            self.kind,
            tuple(self.reads),
            tuple(self.writes),
            tuple(self.functions),
            frozenset(self.flags),
            harmless(self.root),
            needed(self.root),
        )

    def _besides(self) -> list[Unit]:
        """What else a statement is: an upsert updates, a MERGE does what its branches say."""
        root, writes = self.root, tuple(self.writes)
        kinds: dict[str, None] = {}
        if isinstance(root, ast.InsertStmt) and _upserts(root):
            kinds["update"] = None
        if isinstance(root, ast.MergeStmt):
            for branch in root.mergeWhenClauses or ():
                if branch.commandType in _MERGED:
                    kinds[_MERGED[branch.commandType]] = None
        found = [Unit(word, writes=writes) for word in kinds]
        if self.locked:
            found.append(Unit("lock", reads=tuple(self.locked)))
        return found

    def _starts_unit(self, node: Any) -> bool:
        if isinstance(node, (*_DML, ast.ExecuteStmt)):
            return True
        return isinstance(self.root, _WRAPPERS) and kind_of(type(node).__name__) != "unknown"

    def _targets(self) -> list[Any]:
        """Relations that this statement changes; noted as writes, and not seen again as reads."""
        root = self.root
        found = relations(root)
        for node in found:
            self.writes[_name(node)] = None
        for name in defined(root):
            self.writes[name] = None
        if isinstance(root, ast.UpdateStmt) and updates_settings(root):
            self.functions[Name("pg_catalog", "set_config")] = None
        # An UPDATE, DELETE or MERGE, and RETURNING, tell what rows hold.
        if isinstance(root, _DML) and _reveals(root):
            for node in found:
                self.reads[_name(node)] = None
        return found

    def _see(self, node: Any, ctes: frozenset[str]) -> None:
        if isinstance(node, ast.RangeVar):
            if node.schemaname or node.relname not in ctes:
                side = self.writes if _defines(self.kind) else self.reads
                side[_name(node)] = None
        elif isinstance(node, ast.FuncCall):
            if not plain_set_config(node):
                self.functions[_qualified(node.funcname)] = None
        elif isinstance(node, ast.A_Expr | ast.SortBy):
            operator = node.name if isinstance(node, ast.A_Expr) else node.useOp
            self._operator(operator)
        elif isinstance(node, ast.SubLink):
            self._operator(node.operName)
        elif isinstance(node, ast.SelectStmt):
            if node.intoClause:
                self.writes[_name(node.intoClause.rel)] = None
            if node.lockingClause:
                self._lock(node, ctes)

    def _operator(self, parts: Any) -> None:
        """One that is not the server's own calls a function of somebody's."""
        if not parts:
            return
        name = _qualified(parts)
        own = name.schema == "pg_catalog" or (not name.schema and name.name in OPERATORS)
        if not own and not name.name[0].isalpha():  # BETWEEN is no operator
            self.functions[name] = None

    def _lock(self, select: Any, ctes: frozenset[str]) -> None:
        """FOR UPDATE and its like lock rows of every relation below, whichever OF names."""
        for node in everything(select.fromClause or ()):
            if isinstance(node, ast.RangeVar) and (node.schemaname or node.relname not in ctes):
                self.locked[_name(node)] = None

    def _flag(self) -> None:
        root = self.root
        if isinstance(root, _DML) and not isinstance(root, ast.InsertStmt) and _unfiltered(root):
            self.flags.add("unfiltered_write")
        if isinstance(root, ast.TruncateStmt):
            self.flags.add("unfiltered_write")
        if self.reads and _unlimited(root):
            self.flags.add("no_limit")
        if isinstance(root, ast.DoStmt):
            self.flags |= {"do_block", "dynamic"}
        if isinstance(root, ast.CopyStmt) and root.is_program:
            self.flags.add("copy_program")
        if isinstance(root, ast.CreateFunctionStmt | ast.CallStmt):
            self.flags.add("dynamic")
        if any(name.name in _RUNS_TEXT for name in self.functions):
            self.flags.add("dynamic")


def _upserts(root: Any) -> bool:
    clause = root.onConflictClause
    return clause is not None and clause.action == enums.OnConflictAction.ONCONFLICT_UPDATE


def _reveals(root: Any) -> bool:
    if not isinstance(root, ast.InsertStmt):
        return True
    return bool(
        getattr(root, "returningList", None)
        or getattr(root, "returningClause", None)
        or _upserts(root)
    )


def _unfiltered(root: Any) -> bool:
    """No condition, or one that looks at no column: `WHERE true`."""
    if isinstance(root, ast.MergeStmt):
        condition = root.joinCondition
    else:
        condition = root.whereClause
    if condition is None:
        return True
    return not any(isinstance(n, ast.ColumnRef | ast.CurrentOfExpr) for n in everything(condition))


def _unlimited(root: Any) -> bool:
    """It sends rows, and no LIMIT bounds them (LIMIT ALL and LIMIT NULL do not)."""
    if isinstance(root, ast.CopyStmt) and not root.is_from:
        root = root.query
        if root is None:
            return True
    if not isinstance(root, ast.SelectStmt) or root.intoClause:
        return False
    limit = root.limitCount
    return limit is None or (isinstance(limit, ast.A_Const) and bool(limit.isnull))


def _defines(word: str) -> bool:
    return word in (
        *("drop", "alter", "grant", "comment", "vacuum", "analyze", "cluster", "reindex"),
        *("security_label", "drop_owned", "reassign_owned"),
    )


def _below(node: Any, ctes: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
    """The nodes below, each with the WITH names that it can see.

    Without RECURSIVE a WITH query sees only those before it: in `WITH t AS (SELECT * FROM t) ...`
    the inner t is the table.
    """
    if isinstance(node, ast.LockingClause):  # its names are aliases
        return []
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
