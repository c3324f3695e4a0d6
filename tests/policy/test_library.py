# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists and documents that ship."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner
from pglast import ast

from gateway.admin.cli.policy import COMMAND
from gateway.policy.documents import PolicySet
from gateway.policy.languages.sql.kinds import ALONE, SETS, WORDS, kind_of
from gateway.policy.matching import CATALOGUE, SAFE_FUNCTIONS

LIBRARY = Path(str(files("gateway.policy").joinpath("library")))
DOCUMENTS = PolicySet.load([LIBRARY]).documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_document_of_the_library_passes_its_own_tests(document):
    assert len(document.tests) >= 3
    answer = CliRunner().invoke(COMMAND, ["test", document.place, "-o", "json"])
    assert [r for r in json.loads(answer.stdout) if not r["ok"]] == []
    assert answer.exit_code == 0


def test_the_library_is_known_by_its_files():
    assert {(d.name, Path(d.place).stem) for d in DOCUMENTS} == {
        (d.name, d.name) for d in DOCUMENTS
    }


def test_no_safe_function_reads_files_runs_text_or_changes_anything():
    suspects = """pg_read_file pg_ls_dir pg_stat_file lo_import lo_export lo_get query_to_xml
    table_to_xml schema_to_xml database_to_xml cursor_to_xml ts_stat ts_rewrite dblink nextval
    setval set_config pg_notify pg_sleep pg_advisory_lock pg_terminate_backend pg_cancel_backend
    pg_reload_conf pg_stat_get_activity pg_stat_get_backend_activity pg_stat_get_wal_receiver
    pg_logical_emit_message pg_switch_wal pg_hba_file_rules setseed currtid2""".split()
    assert SAFE_FUNCTIONS & set(suspects) == set()
    assert {"lower", "count", "now", "coalesce", "pg_get_viewdef"} <= SAFE_FUNCTIONS
    assert "pg_class" in CATALOGUE


@pytest.mark.parametrize("name", [n for n in dir(ast) if n.endswith("Stmt") and n != "CopyStmt"])
def test_every_statement_of_the_parser_has_a_kind(name):
    unreachable = {
        "RawStmt",
        "ReturnStmt",
        "PLAssignStmt",
        "SetOperationStmt",
        "ReplicaIdentityStmt",
    }
    assert (kind_of(name) == "unknown") == (name in unreachable)
    assert kind_of(name) in WORDS


def test_each_kind_is_in_a_set_or_stands_alone():
    for kind in WORDS - set(SETS):
        sets = [name for name, kinds in SETS.items() if kind in kinds]
        assert bool(sets) != (kind in ALONE), kind
        assert len(sets) < 2 or kind == "fetch", kind
