# SPDX-License-Identifier: GPL-3.0-or-later
"""The house's own limits: size of functions and files, purity, names, licences."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))
PURE_NAMES = {"wire.py", "scan.py", "login.py", "dialog.py", "replay.py", "model.py"}
EFFECTS = {"asyncio", "socket", "ssl", "time", "os", "subprocess", "threading", "sqlite3", "httpx"}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "base"}


def functions() -> Iterator[tuple[int, str]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield node.end_lineno - node.lineno + 1, f"{path}:{node.lineno} {node.name}"


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def is_pure(path: Path) -> bool:
    folders = path.relative_to(ROOT).parts
    return (
        path.name in PURE_NAMES
        or folders[1] in ("protocols", "wire")
        and path.name not in ("serve.py", "__init__.py")
        or (folders[1] == "policy" and path.name not in ("child.py", "documents.py"))
    )


def test_functions_are_short() -> None:
    sizes = sorted(size for size, _ in functions())
    assert statistics.median(sizes) < 10
    assert sizes[int(len(sizes) * 0.95)] <= 40


def test_no_function_is_over_80_lines() -> None:
    assert [where for size, where in functions() if size > 80] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_licensed_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert text.startswith("# SPDX-License-Identifier: GPL-3.0-or-later")
    assert ast.get_docstring(ast.parse(text)) or len(text.splitlines()) == 1
    assert not VAGUE_NAMES & {part.removesuffix(".py") for part in path.parts}


def test_pure_files_import_no_effect() -> None:
    guilty = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in SOURCES
        if is_pure(path)
        if (found := {name.split(".")[0] for name in imported_modules(path)} & EFFECTS)
    }
    assert guilty == {}


def test_the_verifier_stands_alone() -> None:
    for path in (ROOT / "gateway" / "verify").rglob("*.py"):
        foreign = {
            name
            for name in imported_modules(path)
            if name.startswith("gateway") and not name.startswith("gateway.verify")
        }
        assert not foreign, path


def test_nobody_imports_app_but_those_who_start_it() -> None:
    starters = {"__main__.py", "serve.py", "try_.py", "story.py", "demo.py"}
    for path in SOURCES:
        if "gateway.app" in imported_modules(path):
            assert path.name in starters or "demo" in path.parts, path
