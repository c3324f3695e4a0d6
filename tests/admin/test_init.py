# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate init`: what it writes loads as it stands, and so does each comment in it."""

from __future__ import annotations

import dataclasses
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root
from gateway.config import Settings, load_objects, load_settings
from gateway.policy.documents import PolicySet
from gateway.record.recipients import Identity


def init(folder: Path) -> Result:
    return CliRunner().invoke(root, ["init", "--dir", str(folder), "--data", str(folder / "data")])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert init(tmp_path / "etc").exit_code == 0
    return tmp_path / "etc"


def test_what_it_writes_loads_unchanged_and_without_a_warning(folder: Path) -> None:
    settings, warnings = load_settings(folder / "trailgate.yaml")
    objects, more = load_objects(settings.objects)
    assert (warnings, more) == ((), ())
    assert settings.data == folder / "data"
    assert list(objects.recipients) == ["auditor"]
    (document,) = PolicySet.load(settings.policies).documents
    assert document.name == "read-only"


def test_its_settings_are_the_defaults_but_for_what_must_be_said(folder: Path) -> None:
    settings, _ = load_settings(folder / "trailgate.yaml")
    said = {"data", "listeners", "objects", "policies", "master_key", "file"}
    bare = Settings(data=settings.data)
    for item in dataclasses.fields(Settings):
        if item.name not in said:
            assert getattr(settings, item.name) == getattr(bare, item.name), item.name


def test_the_master_key_that_it_makes_is_the_one_in_force(folder: Path) -> None:
    settings, _ = load_settings(folder / "trailgate.yaml")
    assert Path(settings.master_key_source.name) == folder / "master.key"
    assert (folder / "master.key").stat().st_mode & 0o777 == 0o600


def test_every_setting_stands_there_with_its_meaning(folder: Path) -> None:
    text = (folder / "trailgate.yaml").read_text()
    for item in dataclasses.fields(Settings):
        if item.init:
            assert re.search(rf"^(# )?{item.name}:", text, re.M), item.name
            assert item.metadata["doc"] in text
    for name in ("durability", "chain_depth", "store_grace_seconds", "cert_path"):
        assert re.search(rf"^#   {name}: \S+ +# \S", text, re.M), name


def test_each_commented_setting_is_right_once_its_mark_is_taken_off(folder: Path) -> None:
    (folder / "tls.pem").touch()
    text = (folder / "trailgate.yaml").read_text()
    opened = re.sub(r"^# (?=( |[a-z_]+:( |$)))", "", text, flags=re.M)
    opened = re.sub(r"/etc/trailgate/tls\.(crt|key)", str(folder / "tls.pem"), opened)
    assert opened.count("\n#") < text.count("\n#") - 20
    settings, _ = load_settings(folder / "trailgate.yaml", opened)
    assert settings.limits == Settings(data=folder).limits
    assert settings.node == "gw1"
    assert settings.evidence.to is not None and settings.evidence.to.bucket == "trailgate-evidence"


def test_the_commented_objects_are_right_too(folder: Path) -> None:
    text = (folder / "objects.yaml").read_text()
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    (folder / "ca.pem").touch()
    opened = re.sub(r"^# (?=---|[a-z]+: )", "", text, flags=re.M)
    opened = re.sub(r"^Objects: .*\n", "", opened, flags=re.M)
    opened = opened.replace("/run/secrets/orders", "secret")
    opened = opened.replace("/etc/trailgate/db-ca.pem", "ca.pem")
    (folder / "objects.yaml").write_text(opened)
    objects, _ = load_objects([folder / "objects.yaml"])
    assert (list(objects.targets), list(objects.issuers)) == (["orders"], ["corp"])


def test_the_auditors_key_is_the_owners_alone(folder: Path) -> None:
    assert stat.S_IMODE((folder / "auditor").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "auditor" / "identity").stat().st_mode) == 0o600
    assert len(Identity.read(folder / "auditor" / "identity").keys) == 1


def test_nothing_is_written_over(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = init(folder)
    assert again.exit_code == 2
    assert "is there already" in again.output and "--dir" in again.output
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = init(tmp_path / "file" / "etc")
    assert answer.exit_code == 2
    assert str(tmp_path / "file") in answer.output
