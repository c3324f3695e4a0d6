# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate token` as people and scripts call it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.pages import CLIENTS, blocks


def document(answer: CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on standard output, and nothing else there."""
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("\n") == 1
    return dict(json.loads(answer.stdout))


def test_a_child_of_the_token_at_hand_key_by_key(api: Any) -> None:
    words = ("token", "--as", "reader", "--scope", "orders", "--expires", "15m", "-o", "json")
    told = document(api.run(*words, TRAILGATE_TOKEN=api.sign("alice")))
    assert set(told) == {"token", "grant", "expires", "chain", "files"}
    assert told["chain"] == ["alice", "reader"]
    assert told["files"] == []
    assert told["expires"].endswith("Z")
    (seen,) = api.get("/api/v1/grants", told["token"]).json()
    assert seen["grant"] == told["grant"]
    assert seen["narrowing"] == [{"scope": ["orders"]}]


def test_a_root_by_the_data_folder_and_a_child_of_it(api: Any) -> None:
    root = document(api.run("token", "--data", str(api.data), "--group", "dba", "-o", "json"))
    (seen,) = api.get("/api/v1/grants", root["token"]).json()
    assert (seen["issuer"], seen["groups"], len(seen["chain"])) == ("trailgate:local", ["dba"], 1)
    child = document(api.run("token", "--data", str(api.data), "--as", "a", "-o", "json"))
    assert child["chain"] == [*seen["chain"], "a"]


def test_for_a_person_it_prints_a_table(api: Any) -> None:
    answer = api.run("token", "--as", "reader", TRAILGATE_TOKEN=api.sign("alice"))
    assert [line.split()[0] for line in answer.stdout.splitlines()] == [
        "token", "grant", "expires", "chain",
    ]  # fmt: skip
    assert "\x1b" not in answer.stdout


def test_allow_becomes_authorization_details(api: Any) -> None:
    allow = '{"targets": ["orders"], "sql": {"kinds": ["read"]}}'
    words = ("token", "--as", "reader", "--allow", allow, "-o", "json")
    told = document(api.run(*words, TRAILGATE_TOKEN=api.sign("alice")))
    (seen,) = api.get("/api/v1/grants", told["token"]).json()
    assert seen["narrowing"] == [
        {"authorization_details": [{"type": "trailgate", **json.loads(allow)}]}
    ]


def test_a_file_is_its_owners_alone_whatever_was_there(api: Any, tmp_path: Path) -> None:
    path, other = tmp_path / "token", tmp_path / "other"
    path.write_text("old")
    path.chmod(0o644)
    reader = path.open()
    words = ("token", "--as", "reader", "--file", str(path), "-o", "json")
    told = document(api.run(*words, TRAILGATE_TOKEN=api.sign("alice")))
    assert told["files"] == [str(path)]
    assert path.read_text() == told["token"] + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert reader.read() == "old"
    reader.close()
    other.write_text("mine")
    path.unlink()
    path.symlink_to(other)
    document(api.run(*words, TRAILGATE_TOKEN=api.sign("alice")))
    assert (other.read_text(), path.is_symlink()) == ("mine", False)
    assert sorted(os.listdir(tmp_path)) == ["other", "token"]


def test_the_tokens_file_is_read_at_each_call(api: Any, tmp_path: Path) -> None:
    path = tmp_path / "ci"
    for subject in ("job-1", "job-2"):
        path.write_text(api.sign(subject) + "\n")
        answer = api.run("token", "--as", "a", "-o", "json", TRAILGATE_TOKEN_FILE=str(path))
        assert document(answer)["chain"][0] == subject


WRONG = [
    (("token",), {}, 2, "TRAILGATE_TOKEN"),
    (("token", "--as", "a", "--allow", "{"), {"TRAILGATE_TOKEN": "t"}, 2, "--allow is not JSON"),
    (("token", "--as", "a", "--expires", "soon"), {"TRAILGATE_TOKEN": "t"}, 2, "write 90s, 15m"),
    (("token", "--as", "a", "--expires", "0"), {"TRAILGATE_TOKEN": "t"}, 2, "write 90s, 15m"),
    (("token",), {"TRAILGATE_TOKEN": "t"}, 2, "--as NAME"),
    (("token", "--as", "a", "--group", "g"), {"TRAILGATE_TOKEN": "t"}, 2, "leave --group out"),
    (("token", "--as", "a"), {"TRAILGATE_TOKEN": "t"}, 1, "neither a gateway token nor a JWT"),
    (("token", "--as", "a"), {"TRAILGATE_TOKEN_FILE": "/none"}, 2, "No such file"),
    (("token", "--as", "a"), {"TRAILGATE_TOKEN_FILE": "/dev/null"}, 2, "is empty"),
    (("token", "--as", "a"), {"TRAILGATE_URL": ""}, 2, "set TRAILGATE_URL="),
    (("token", "--as", "a"), {"TRAILGATE_URL": "http://example.com"}, 2, "use https://HOST:PORT"),
    (("token", "--as", "a"), {"TRAILGATE_TOKEN": "t", "TRAILGATE_URL": "http://127.0.0.1:1"}, 2,
     "is it running?"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "env", "code", "says"), WRONG)
def test_what_goes_wrong_says_what_to_do(
    api: Any, words: tuple[str, ...], env: dict[str, str], code: int, says: str
) -> None:
    answer = api.run(*words, **env)
    assert answer.returncode == code, answer.stderr
    assert says in answer.stderr
    assert answer.stdout == "" and "Traceback" not in answer.stderr


def test_an_agents_name_is_checked_by_the_gateway(api: Any) -> None:
    answer = api.run("token", "--as", "Reader!", TRAILGATE_TOKEN=api.sign("alice"))
    assert answer.returncode == 1
    assert "agent_name must match" in answer.stderr


def test_a_token_with_something_around_it_is_not_printed(api: Any, tmp_path: Path) -> None:
    secret = "tg_hunter2hunter2hunter2"
    answers = [api.run("token", "--as", "a", TRAILGATE_TOKEN=f"{secret}\n{secret}")]
    path = tmp_path / "token"
    path.write_text(f"{secret} and more")
    answers.append(api.run("token", "--as", "a", TRAILGATE_TOKEN_FILE=str(path)))
    for answer in answers:
        assert answer.returncode == 2
        assert "one word and nothing else" in answer.stderr
        assert secret not in answer.stderr + answer.stdout


class _Elsewhere(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, format: str, *args: object) -> None:
        return None


def test_another_server_is_no_gateway(api: Any) -> None:
    with HTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        answer = api.run("token", "--as", "a", TRAILGATE_TOKEN="t", TRAILGATE_URL=url)
        server.shutdown()
    assert answer.returncode == 2
    assert "is no Trailgate gateway" in answer.stderr


# --- for programs that ask for credentials -------------------------------------------------------


def test_an_exec_credential_is_in_the_version_that_the_client_asks_for(api: Any) -> None:
    words = ("token", "--as", "reader", "--expires", "15m", "--format", "exec-credential")
    for asked, version in (
        ("", "v1"),
        ('{"apiVersion": "client.authentication.k8s.io/v1beta1", "spec": {}}', "v1beta1"),
        ('{"apiVersion": "client.authentication.k8s.io/v9"}', "v1"),
        ("[not json", "v1"),
    ):
        env = {"KUBERNETES_EXEC_INFO": asked} if asked else {}
        told = document(api.run(*words, TRAILGATE_TOKEN=api.sign("alice"), **env))
        assert told["apiVersion"] == f"client.authentication.k8s.io/{version}"
        assert told["kind"] == "ExecCredential"
        assert set(told["status"]) == {"token", "expirationTimestamp"}
        own = api.get("/api/v1/self", told["status"]["token"]).json()
        assert own["chain"] == ["alice", "reader"]
        assert own["expires"] == told["status"]["expirationTimestamp"]


def test_a_credential_process_names_the_grant_and_brings_the_token(api: Any) -> None:
    words = ("token", "--as", "reader", "--format", "credential-process")
    told = document(api.run(*words, TRAILGATE_TOKEN=api.sign("alice")))
    assert set(told) == {
        "Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration",
    }  # fmt: skip
    assert told["Version"] == 1
    own = api.get("/api/v1/self", told["SessionToken"]).json()
    assert (own["grant"], own["expires"]) == (told["AccessKeyId"], told["Expiration"])


def test_without_an_agent_a_format_holds_the_token_at_hand(api: Any) -> None:
    token = api.sign("alice")
    told = document(api.run("token", "--format", "exec-credential", TRAILGATE_TOKEN=token))
    assert told["status"]["token"] == token
    narrowed = api.run(
        "token", "--format", "exec-credential", "--scope", "orders", TRAILGATE_TOKEN=token
    )
    assert narrowed.returncode == 2 and "--as NAME" in narrowed.stderr
    root = document(api.run("token", "--data", str(api.data), "--format", "exec-credential"))
    assert api.active(root["status"]["token"])


def test_a_key_is_hashed_scoped_expiring_and_listed_as_documented(api: Any, tmp_path: Path) -> None:
    """The commands are those of docs/clients.md."""
    (example,) = (one.text for one in blocks(CLIENTS, "sh") if "--expires 90d" in one.text)
    make, show, revoke = (shlex.split(line)[1:] for line in example.splitlines())
    file = tmp_path / "report.key"
    known = {"/var/lib/trailgate": str(api.data), "report.key": str(file)}

    def ran(words: list[str], **more: str) -> CompletedProcess[str]:
        return api.run(*((known | more).get(word, word) for word in words))

    made = document(ran([*make, "-o", "json"]))
    assert file.read_text() == made["token"] + "\n" and stat.S_IMODE(file.stat().st_mode) == 0o600
    left = datetime.fromisoformat(made["expires"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left < timedelta(days=90, minutes=1)
    kept = b"".join(one.read_bytes() for one in api.data.iterdir() if one.is_file())
    sha256 = hashlib.sha256(made["token"].encode()).hexdigest().encode()
    assert (made["token"].encode() in kept, sha256 in kept) == (False, True)
    (seen,) = api.get("/api/v1/grants", made["token"]).json()
    assert (seen["actor"], seen["narrowing"]) == ("report", [{"scope": ["orders"]}])
    assert seen["groups"] == ["reports"]
    assert made["grant"] in ran(show).stdout and made["token"] not in ran(show).stdout
    too_long = [word if word != "90d" else "367d" for word in make]
    assert "at most 366 days" in ran(too_long).stderr
    assert ran(revoke, GRANT=made["grant"]).returncode == 0
    assert not api.active(made["token"]) and made["grant"] not in ran(show).stdout
