# SPDX-License-Identifier: GPL-3.0-or-later
"""URIs of servers: what is added, what is warned about, what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from gateway.config import ConfigError, load_settings
from gateway.store.dsn import DEFAULTS, Dsn


@pytest.fixture(autouse=True)
def without_libpqs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGSERVICE", "PGSSLROOTCERT", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)


def test_elsewhere_the_server_must_prove_itself() -> None:
    for host in ("db.example", "10.0.0.1", "127.0.0.1,db.example", "[2001:db8::1]"):
        found = conninfo_to_dict(Dsn.parse(f"postgresql://u@{host}/d").conninfo)
        assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", "system"), host
    service = conninfo_to_dict(Dsn.parse("postgresql:///?service=state").conninfo)
    assert service["sslmode"] == "verify-full"


def test_on_this_machine_libpq_has_its_way() -> None:
    for host in ("127.0.0.1:5433", "localhost", "[::1]", "%2Frun%2Fpostgresql", ""):
        found = conninfo_to_dict(Dsn.parse(f"postgresql://u@{host}/d").conninfo)
        assert "sslmode" not in found, host


def test_no_wait_is_without_an_end_and_the_uri_has_the_last_word() -> None:
    found = conninfo_to_dict(Dsn.parse("postgresql://h/d").conninfo)
    assert {key: str(value) for key, value in DEFAULTS.items()}.items() <= found.items()
    text = "postgresql://h/d?connect_timeout=2&target_session_attrs=any&sslmode=require"
    mine = Dsn.parse(text)
    given = conninfo_to_dict(mine.conninfo)
    assert (given["connect_timeout"], given["target_session_attrs"]) == ("2", "any")
    assert (given["sslmode"], mine.unproven) == ("require", "sslmode=require")


def test_secrets_are_in_no_text() -> None:
    dsn = Dsn.parse("postgresql://app:hunter2@db1:5433/state?sslpassword=hunter3")
    assert dsn.shown == "postgresql://app@db1:5433/state"
    assert "hunter" not in repr(dsn) + dsn.shown
    for wrong in (
        "postgresql://app:hunter2@[::1/state",
        "postgresql://app:hunter2%00@h/state",
        "postgresql://app:hunter2@h/state?sslmod=x",
    ):
        with pytest.raises(ValueError) as error:
            Dsn.parse(wrong)
        assert "hunter2" not in str(error.value)


# --- the setting ---------------------------------------------------------------------------------


def test_a_store_is_a_file_or_a_server(tmp_path: Path) -> None:
    path = tmp_path / "trailgate.yaml"
    settings, _ = load_settings(path, "data: d\nstore: s.sqlite")
    assert settings.store_place == tmp_path / "s.sqlite"
    settings, warnings = load_settings(path, "data: d\nstore: postgresql://app@db/state")
    assert isinstance(settings.store_place, Dsn) and not warnings
    assert settings.store_place.shown == "postgresql://app@db/state"


def test_a_password_in_the_file_is_warned_about_and_never_repeated(tmp_path: Path) -> None:
    path = tmp_path / "trailgate.yaml"
    secret = "postgresql://app:hunter2@db/state?sslmode=require"
    settings, warnings = load_settings(path, f"data: d\nstore: {secret}")
    told = [str(one) for one in warnings]
    assert ["a password stands" in one for one in told] == [False, True]
    assert "sslmode=require does not prove" in told[0] and ":2:" in told[0]
    assert "hunter2" not in repr(settings) + "".join(told)
    (tmp_path / "dsn").write_text(secret.replace("require", "verify-full") + "\n")
    (tmp_path / "dsn").chmod(0o600)
    settings, warnings = load_settings(path, 'data: d\nstore: {from: "file:dsn"}')
    assert isinstance(settings.store_place, Dsn) and not warnings
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    "wrong",
    ["mysql://app:hunter2@db/state", "postgresql://app:hunter2@[::1/state", "7", "[a]", '""'],
)
def test_what_is_neither_is_refused_at_its_line(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings(tmp_path / "trailgate.yaml", f"data: d\nstore: {wrong}")
    assert ":2:8: store" in str(error.value) and "hunter2" not in str(error.value)
