# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of each statement, and the sets of kinds. A statement class that is not named here
and is no CREATE, ALTER or DROP is `unknown`, which is in no set."""

from __future__ import annotations

_EXACT = {
    "SelectStmt": "select",
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
    "TruncateStmt": "truncate",
    "ExplainStmt": "explain",
    "DeclareCursorStmt": "declare",
    "FetchStmt": "fetch",
    "ClosePortalStmt": "close",
    "PrepareStmt": "prepare",
    "ExecuteStmt": "execute",
    "DeallocateStmt": "deallocate",
    "TransactionStmt": "transaction",
    "VariableSetStmt": "set",
    "VariableShowStmt": "show",
    "DiscardStmt": "discard",
    "ListenStmt": "listen",
    "UnlistenStmt": "unlisten",
    "NotifyStmt": "notify",
    "ConstraintsSetStmt": "set_constraints",
    "LockStmt": "lock",
    "CallStmt": "call",
    "DoStmt": "do",
    "LoadStmt": "load",
    "CheckPointStmt": "checkpoint",
    "VacuumStmt": "vacuum",
    "ClusterStmt": "cluster",
    "ReindexStmt": "reindex",
    "GrantStmt": "grant",
    "GrantRoleStmt": "grant",
    "AlterDefaultPrivilegesStmt": "grant",
    "AlterSystemStmt": "alter_system",
    "AlterRoleStmt": "alter_role",
    "AlterRoleSetStmt": "alter_role",
    "CreateRoleStmt": "create_role",
    "DropRoleStmt": "drop_role",
    "CreatedbStmt": "create_database",
    "DropdbStmt": "drop_database",
    "AlterDatabaseStmt": "alter_database",
    "AlterDatabaseSetStmt": "alter_database",
    "AlterDatabaseRefreshCollStmt": "alter_database",
    "CreateTableSpaceStmt": "create_tablespace",
    "DropTableSpaceStmt": "drop_tablespace",
    "AlterTableSpaceOptionsStmt": "alter_tablespace",
    "ReassignOwnedStmt": "reassign_owned",
    "DropOwnedStmt": "drop_owned",
    "CreateSubscriptionStmt": "create_subscription",
    "AlterSubscriptionStmt": "alter_subscription",
    "DropSubscriptionStmt": "drop_subscription",
    "CreateUserMappingStmt": "create_user_mapping",
    "AlterUserMappingStmt": "alter_user_mapping",
    "DropUserMappingStmt": "drop_user_mapping",
    "CreateForeignServerStmt": "create_server",
    "AlterForeignServerStmt": "alter_server",
    "CreateFdwStmt": "create_fdw",
    "AlterFdwStmt": "alter_fdw",
    "CreateExtensionStmt": "create_extension",
    "AlterExtensionStmt": "alter_extension",
    "AlterExtensionContentsStmt": "alter_extension",
    "CreatePLangStmt": "create_language",
    "CommentStmt": "comment",
    "SecLabelStmt": "security_label",
    "RefreshMatViewStmt": "refresh",
    "ImportForeignSchemaStmt": "import",
    "RenameStmt": "alter",
    "CompositeTypeStmt": "create",
    "DefineStmt": "create",
    "IndexStmt": "create",
    "RuleStmt": "create",
    "ViewStmt": "create",
}

READ = frozenset({"select", "explain", "copy_to", "declare", "fetch", "prepare", "execute"})
WRITE = frozenset({"insert", "update", "delete", "merge", "truncate", "copy_from"})
SCHEMA = frozenset({"create", "alter", "drop", "comment", "refresh", "import", "security_label"})
SESSION = frozenset(
    {"transaction", "set", "show", "discard", "deallocate", "close", "fetch"}
    | {"listen", "unlisten", "notify", "set_constraints", "lock"}
)
_SPLIT = frozenset({"analyze", "two_phase"})  # one class of the parser, several kinds
_OPEN = frozenset({"call", "do"})
ADMIN = frozenset(_EXACT.values()) - READ - WRITE - SCHEMA - SESSION - _OPEN | _SPLIT
SETS = {"read": READ, "write": WRITE, "schema": SCHEMA, "session": SESSION, "admin": ADMIN}
ALONE = _OPEN | {"copy_program", "copy_file", "set_role", "function_call", "unknown"}
"""In no set: only a rule that names such a kind speaks of it."""
NAMES = frozenset(_EXACT.values()) | READ | WRITE | SCHEMA | SESSION | ADMIN | ALONE
WORDS = NAMES | frozenset(SETS)


def kind_of(statement: str) -> str:
    """The kind of a statement by the name of its class in the parser; see `parse.kind`."""
    if (exact := _EXACT.get(statement)) is not None:
        return exact
    if statement.endswith("Stmt"):
        for prefix in ("Create", "Alter", "Drop"):
            if statement.startswith(prefix):
                return prefix.lower()
    return "unknown"


def within(kind: str, words: tuple[str, ...]) -> bool:
    """True when one of `words` (kinds or sets) is `kind` or holds it."""
    return any(kind == word or kind in SETS.get(word, ()) for word in words)
