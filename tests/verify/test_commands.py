# SPDX-License-Identifier: GPL-3.0-or-later
"""The three ways to call the verifier: as a file alone, as a module, as a command of the CLI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.admin.cli.verify import COMMAND
from gateway.verify.__main__ import main
from gateway.verify.build import build
from tests.verify.corpus import whole

KEYS = [
    "ok", "trust", "trusted_by", "content", "range", "complete_to", "witnessed_to", "checked",
    "open", "pending", "lost", "gaps", "erased", "expired", "unresolved", "defects",
]  # fmt: skip


def test_the_one_file_stands_alone_and_is_the_same_each_time(tmp_path: Path) -> None:
    whole(tmp_path / "data")
    one, two = tmp_path / "one.pyz", tmp_path / "two.pyz"
    build(one)
    build(two)
    assert one.read_bytes() == two.read_bytes()
    done = subprocess.run(
        [sys.executable, str(one), str(tmp_path / "data"), "-o", "json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert list(json.loads(done.stdout)) == KEYS


def test_the_command_says_what_is_wrong_and_exits_with_1(tmp_path: Path) -> None:
    corpus = whole(tmp_path)
    (corpus.root / "README.json").write_text("{}")
    result = CliRunner().invoke(COMMAND, [str(tmp_path)])
    assert result.exit_code == 1
    assert "README.json" in result.output and "NOT SOUND" in result.output


def test_what_cannot_be_checked_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none"), "-o", "json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], list(document)) == (False, KEYS)
    assert main([str(tmp_path)]) == 2
    assert "no log lies here" in capsys.readouterr().err
