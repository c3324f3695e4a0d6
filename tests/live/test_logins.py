# SPDX-License-Identifier: GPL-3.0-or-later
"""People log in at real providers, and reach a real database with what these say of them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.admin.cli._browser_login import begin, wait
from gateway.admin.cli.demo.postgres_server import PostgresServer
from gateway.identity.login.relying import Ended, OidcProvider, RelyingParty
from gateway.identity.oidc import Issuer, Issuers
from gateway.identity.saml.logins import request_url
from gateway.identity.saml.metadata import read_metadata
from gateway.identity.saml.parsing import BadXml
from gateway.identity.saml.response import SamlProvider, read_response
from tests import scripted_browser
from tests.live.people import CACHE, PASSWORD, Provider, knows_gateway, oidc_provider, saml_provider
from tests.live.test_serve import Served, serving, written
from tests.pages import blocks
from tests.scripted_browser import Browser
from tests.test_docs_logins import LOGINS

pytestmark = pytest.mark.live


@dataclass
class World:
    """A served gateway at which people log in by both providers."""

    served: Served
    oidc: Provider
    saml: Provider
    desk: Path
    spent: list[str] = field(default_factory=list)
    """Secrets that were seen, which must stand in no log."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.served.api}"

    def set_groups(self, *groups: str, name: str = "Alice") -> None:
        """What both providers say of alice from now on."""
        self.oidc.set_people({"alice": {"name": name, "groups": list(groups)}})
        known = {"mail": ["alice@example.com"], "groups": list(groups), "displayName": [name]}
        self.saml.set_people({f"alice:{PASSWORD}": known})

    def environment(self, **fields: str) -> dict[str, str]:
        """For commands of a person whose browser types so."""
        typed = {"answer": "yes", "login": "alice", "username": "alice", "password": PASSWORD}
        return {
            **os.environ,
            "TRAILGATE_URL": self.url,
            "TRAILGATE_CA_PATH": self.served.ca,
            "XDG_STATE_HOME": str(self.desk),
            "BROWSER": f"{sys.executable} {scripted_browser.__file__} %s &",
            "SCRIPTED_BROWSER": json.dumps({**typed, **fields}),
            "SSL_CERT_FILE": self.served.ca,
        }

    def run(
        self, *words: str, env: dict[str, str] | None = None, **fields: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *words],
            env=env or self.environment(**fields),
            capture_output=True,
            text=True,
            timeout=90,
        )

    def login(self, issuer: str) -> dict[str, Any]:
        """What `login -o json` prints."""
        done = self.run("login", "--issuer", issuer, "-o", "json")
        assert done.returncode == 0, done.stderr
        told = dict(json.loads(done.stdout))
        told["token"] = Path(told["file"]).read_text().strip()
        self.spent.append(told["token"])
        return told

    def psql(self, token: str, sql: str = "select count(*) from customers") -> Any:
        dsn = self.served.dsn(token, user="postgres")
        with psycopg.connect(dsn, autocommit=True) as link:
            return link.execute(sql).fetchone()  # type: ignore[arg-type]


CHROMIUM_LOGIN = ["node", str(Path(__file__).with_name("chromium.mjs"))]


def chromium(folder: Path) -> dict[str, str]:
    """The environment in which addresses are opened by Chromium."""
    program, module = shutil.which("chromium"), CACHE / "npm/node_modules/playwright-core/index.mjs"
    if program is None or not module.is_file():
        pytest.skip("chromium or playwright-core is missing: run tests/install-servers")
    return {
        "BROWSER": f"{' '.join(CHROMIUM_LOGIN)} %s &",
        "PLAYWRIGHT_MODULE": str(module),
        "CHROMIUM": program,
        "CHROMIUM_LOG": str(folder / "chromium.log"),
    }


def shown_code(child: subprocess.Popen[str]) -> str:
    """The code that `login --device` shows."""
    assert child.stderr is not None
    said = ""
    while not (code := re.search(r"^  ([A-Z]{4}-[A-Z]{4})$", said, re.M)):
        assert child.poll() is None, said
        said += child.stderr.readline()
    return code[1]


@pytest.fixture(scope="module")
def world(shop: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("logins")
    ports = written(folder, shop)
    # Another site than the providers', for browsers that keep cookies apart.
    base = f"https://localhost:{ports[1]}"
    with (folder / "trailgate.yaml").open("a") as settings:
        settings.write(f"url: {base}\n")
    with ExitStack() as stack:
        callbacks = [f"{base}/login/oidc/{name}/callback" for name in ("corp",)]
        oidc = stack.enter_context(oidc_provider(folder, callbacks))
        saml = stack.enter_context(saml_provider(folder))
        (folder / "oidc-secret").write_text(oidc.secret)
        (folder / "oidc-secret").chmod(0o600)
        (folder / "idp-metadata.xml").write_text(saml.metadata)
        entity = f"{base}/login/saml/corp-saml/metadata"
        knows_gateway(saml, entity, f"{base}/login/saml/corp-saml/acs")
        with (folder / "objects.yaml").open("a") as objects:
            objects.write(
                f"---\nissuer: corp\nurl: {oidc.url}\naudience: trailgate-api\n"
                "client_id: trailgate\nclient_secret: {from: 'file:oidc-secret'}\n"
                "scopes: [openid, profile, groups, offline_access]\n"
                f"---\nissuer: corp-saml\nkind: saml\nurl: {saml.url}/idp\naudience: {entity}\n"
                "metadata_path: idp-metadata.xml\nclaims: {name: displayName}\n"
                "---\nperson: alice\nidentities:\n  - {issuer: corp, subject: alice}\n"
                "  - {issuer: corp-saml, subject: alice@example.com}\n"
            )
        desk = tmp_path_factory.mktemp("desk")
        with serving(folder, ports) as served:
            found = World(served, oidc, saml, desk)
            found.set_groups("data")
            yield found


def test_login_by_openid_reaches_the_database_by_the_groups_of_the_provider(world: World) -> None:
    world.set_groups("data")
    told = world.login("corp")
    assert told["origin"] == {
        "issuer": world.oidc.url,
        "subject": "alice",
        "name": "alice",
        "kind": "person",
    }
    assert world.psql(told["token"]) == (2,)
    assert world.run("logout").returncode == 0
    with pytest.raises(psycopg.OperationalError, match="revoked"):
        world.psql(told["token"])


def test_login_by_saml_reaches_the_database_by_the_groups_of_the_provider(world: World) -> None:
    world.set_groups("data", "Domain Users")
    told = world.login("corp-saml")
    assert told["origin"]["issuer"] == f"{world.saml.url}/idp"
    assert told["origin"]["subject"] == "alice@example.com" and told["origin"]["name"] == "alice"
    assert world.psql(told["token"]) == (2,)
    grants = json.loads(world.run("grants", "list", "-o", "json").stdout)
    (mine,) = [one for one in grants if one["grant"] == told["grant"]]
    assert mine["groups"] == ["data", "Domain Users"]


@pytest.mark.parametrize("issuer", ["corp", "corp-saml"])
def test_who_left_the_group_is_refused_at_the_next_login(world: World, issuer: str) -> None:
    world.set_groups("data")
    before = world.login(issuer)
    assert world.psql(before["token"]) == (2,)
    world.set_groups("others")
    after = world.login(issuer)
    with pytest.raises(psycopg.OperationalError, match="no policy gives access"):
        world.psql(after["token"])


def test_one_persons_two_logins_are_one_person(world: World) -> None:
    world.set_groups("data")
    by_oidc, by_saml = world.login("corp"), world.login("corp-saml")
    seen = json.loads(world.run("grants", "list", "-o", "json").stdout)
    assert {by_oidc["grant"], by_saml["grant"]} <= {one["grant"] for one in seen}
    done = world.run("grants", "revoke", by_oidc["grant"])
    assert done.returncode == 0, done.stderr
    with pytest.raises(psycopg.OperationalError, match="revoked"):
        world.psql(by_oidc["token"])


def test_an_agent_of_a_person_who_logged_in(world: World) -> None:
    world.set_groups("data")
    world.login("corp")
    done = world.run(
        "run", "--as", "reader", "--", "psql", "-XAtc", "select count(*) from customers",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_a_terminal_without_a_browser(world: World) -> None:
    world.set_groups("data")
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway", "login", "--device", "-o", "json"],
        env=world.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    code = shown_code(child)
    typed = json.loads(world.environment()["SCRIPTED_BROWSER"])
    person = Browser({**typed, "user_code": code, "issuer": "corp"}, world.served.ca)
    page = person.go(f"{world.url}/login/device")
    assert "The terminal goes on by itself" in page.text, page.text
    assert child.stdout is not None
    told = json.loads(child.stdout.read())
    assert child.wait(60) == 0 and told["origin"]["name"] == "alice"
    assert world.psql(Path(told["file"]).read_text().strip()) == (2,)


@pytest.mark.parametrize("issuer", ["corp", "corp-saml"])
def test_a_real_browser_takes_every_step(world: World, tmp_path: Path, issuer: str) -> None:
    """Cookies from site to site, forms that lead on by redirect, the pages' own policy."""
    world.set_groups("data")
    env = world.environment(issuer=issuer) | chromium(tmp_path)
    done = world.run("login", "-o", "json", env=env)  # without --issuer: a page asks
    log = (tmp_path / "chromium.log").read_text()
    assert done.returncode == 0, done.stderr + log
    assert json.loads(done.stdout)["origin"]["name"] == "alice"
    assert "You can close this page" in log
    assert "Content Security Policy" not in log, log


def test_a_real_browser_confirms_a_terminal(world: World, tmp_path: Path) -> None:
    world.set_groups("data")
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway", "login", "--device", "-o", "json"],
        env=world.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    code = shown_code(child)
    env = world.environment(user_code=code, issuer="corp-saml") | chromium(tmp_path)
    subprocess.run([*CHROMIUM_LOGIN, f"{world.url}/login/device"], env=env, timeout=90, check=True)
    log = (tmp_path / "chromium.log").read_text()
    assert "The terminal goes on by itself" in log, log
    assert "Content Security Policy" not in log, log
    assert child.wait(60) == 0


def test_the_page_does_what_it_says(world: World) -> None:
    """The commands of docs/logins.md in order; `--device` and `--no-browser` have tests above."""
    world.set_groups("data")
    shutil.copy(world.served.ca, world.desk / "ca.pem")
    lines = [line for block in blocks(LOGINS, "sh") for line in block.text.splitlines()]
    script = "\n".join(line for line in lines if "--device" not in line)
    assert "trailgate logout" in script and "trailgate connect" in script
    script = script.replace("gateway.example.com:8443", f"localhost:{world.served.api}")
    env = world.environment(issuer="corp-saml")
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    clean = {name: value for name, value in env.items() if not name.startswith("PG")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=clean,
        cwd=world.desk,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n        1\n") >= 1 and "logged out" in done.stdout


def test_a_refresh_token_is_kept_sealed_and_used(world: World) -> None:
    """The grant outlives the ID token of ten minutes only by it; the real refreshes are in
    tests/admin/test_login.py, on a clock that can be turned."""
    told = world.login("corp")
    caller = httpx.Client(
        verify=ssl.create_default_context(cafile=world.served.ca), trust_env=False
    )
    answer = caller.get(
        f"{world.url}/api/v1/grants", headers={"authorization": f"Bearer {told['token']}"}
    )
    (mine,) = [one for one in answer.json() if one["grant"] == told["grant"]]
    lasts = _seconds(mine["expires"]) - _seconds(mine["issued"])
    assert lasts == pytest.approx(28_800, abs=5)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_reload_takes_a_changed_issuer_and_keeps_logins_that_are_there(world: World) -> None:
    told = world.login("corp")
    objects = world.served.folder / "objects.yaml"
    text = objects.read_text()
    objects.write_text(text.replace("claims: {name: displayName}", "claims: {groups: mail}"))
    world.served.child.send_signal(signal.SIGHUP)
    try:
        while not [one for one in world.served.log() if one["message"] == "reloaded"]:
            assert world.served.child.poll() is None
        by_saml = world.login("corp-saml")
        with pytest.raises(psycopg.OperationalError, match="no policy gives access"):
            world.psql(by_saml["token"])
        assert world.psql(told["token"]) == (2,)
    finally:
        objects.write_text(text)
        world.served.child.send_signal(signal.SIGHUP)


def test_no_token_and_no_code_stands_in_any_log(world: World) -> None:
    world.login("corp")
    log = (world.served.folder / "log").read_text()
    assert "person logged in" in log
    state = b"".join(path.read_bytes() for path in world.served.data.glob("state.sqlite*"))
    for token in world.spent:
        assert token not in log and token.encode() not in state
    assert "code=" not in log and "SAMLResponse" not in log and world.oidc.secret not in log
    with sqlite3.connect(world.served.data / "state.sqlite") as link:
        sealed = [base64.b64decode(row[0]) for row in link.execute("SELECT sealed FROM refreshes")]
    assert sealed and not any(one.isascii() for one in sealed)


@pytest.mark.parametrize("userinfo", [False, True], ids=["ID token", "userinfo"])
async def test_refreshes_at_a_real_provider(tmp_path: Path, userinfo: bool) -> None:
    """Rotated tokens, groups as they are now, and the end: as every five minutes."""
    with begin() as started, oidc_provider(tmp_path, [started.redirect], userinfo=userinfo) as real:
        real.set_people({"alice": {"name": "Alice", "groups": ["dba", "ops"]}})
        issuer = Issuer("corp", real.url, "api")
        issuers = Issuers([issuer])
        scopes = ("openid", "profile", "groups", "offline_access")
        party = RelyingParty(OidcProvider(issuer, "trailgate", real.secret, scopes), issuers)
        url = await party.authorization_url(
            redirect=started.redirect, state=started.state, nonce="n", verifier=started.verifier
        )
        person = Browser({"login": "alice", "password": PASSWORD})
        waiting = asyncio.create_task(asyncio.to_thread(wait, started, expected_iss=real.url))
        await asyncio.to_thread(person.go, url)
        given = {"redirect": started.redirect, "nonce": "n", "verifier": started.verifier}
        verified = await party.redeem(await waiting, **given)
        assert verified.identity.subject == "alice" and verified.groups == ("dba", "ops")
        token, groups = await party.refresh(verified.refresh_token, "alice")
        assert groups == ("dba", "ops") and verified.login["method"] == "oidc"
        real.set_people({"alice": {"name": "Alice", "groups": ["ops"]}})
        token, groups = await party.refresh(token, "alice")
        assert groups == ("ops",)
        with pytest.raises(Ended):
            await party.refresh(token, "bob")
        real.set_people({})
        with pytest.raises(Ended):
            await party.refresh(token, "alice")
        await issuers.close()


@pytest.mark.parametrize("signs", ["assertion", "response"])
def test_answers_of_a_real_provider_are_read_and_none_of_them_altered(
    tmp_path: Path, signs: str
) -> None:
    """The provider's own XML and signature, as it is and with each part of it changed."""
    with saml_provider(tmp_path, signs=signs) as real:
        entity, acs = "https://gateway.example/saml", "https://gateway.example/acs"
        knows_gateway(real, entity, acs)
        known = {"mail": ["alice@example.com"], "groups": ["dba", "ops"]}
        real.set_people({f"alice:{PASSWORD}": known})
        metadata = read_metadata(real.metadata.encode(), f"{real.url}/idp")
        found = SamlProvider(
            "corp", f"{real.url}/idp", entity, metadata.sso_url, metadata.certificates
        )
        url = request_url(found, "_request", acs, time.time())
        person = Browser({"username": "alice", "password": PASSWORD})
        answer = base64.b64decode(person.posted_to(url, acs)["SAMLResponse"])
        assertion = read_response(answer, found, acs, time.time())
        assert assertion.name_id == "alice@example.com" and assertion.in_response_to == "_request"
        assert assertion.attributes["groups"] == ("dba", "ops")
        text = answer.decode()
        for old, new in (
            ("alice@example.com", "admin@example.com"),
            (">dba<", ">root<"),
            (entity, "https://other.example/saml"),
            ("_request", "_another"),
            ("SignatureValue>", "SignatureValue> A"),
            ("rsa-sha256", "hmac-sha256"),
            ("<saml:Assertion ", "<!-- x --><saml:Assertion "),
        ):
            assert old in text, old
            with pytest.raises(BadXml):
                read_response(text.replace(old, new).encode(), found, acs, time.time())
        encrypted = {"assertion.encryption": True, "certData": _certificate(tmp_path)}
        knows_gateway(real, entity, acs, **encrypted)
        answer = base64.b64decode(person.posted_to(url, acs)["SAMLResponse"])
        with pytest.raises(BadXml, match="encrypted"):
            read_response(answer, found, acs, time.time())


def _certificate(folder: Path) -> str:
    lines = (folder / "saml" / "idp.crt").read_text().splitlines()
    return "".join(line for line in lines if not line.startswith("-----"))
