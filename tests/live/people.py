# SPDX-License-Identifier: GPL-3.0-or-later
"""Real providers on loopback: oidc-provider (OpenID-certified, Node.js) and SimpleSAMLphp.

tests/install-servers puts both into a cache; where one is missing, its tests are skipped and say
so.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bench.stage import free_port

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trailgate-tests"
OIDC_MODULE = CACHE / "npm" / "node_modules" / "oidc-provider" / "lib" / "index.js"
SIMPLESAML = CACHE / "simplesamlphp" / "usr" / "share" / "simplesamlphp"
BESIDE = Path(__file__).parent
READY_SECONDS = 30
PASSWORD = "any-password"


@dataclass
class Provider:
    """A running provider. `declared`: the lines of its issuer object."""

    url: str
    people: Path
    secret: str = ""
    metadata: str = ""

    def set_people(self, people: Mapping[str, Mapping[str, Any]]) -> None:
        self.people.write_text(json.dumps(people))


@contextmanager
def oidc_provider(
    folder: Path, redirects: list[str], *, userinfo: bool = False
) -> Iterator[Provider]:
    """`userinfo`: ID tokens hold `sub` alone, the rest is at the userinfo endpoint."""
    if shutil.which("node") is None or not OIDC_MODULE.is_file():
        pytest.skip(f"oidc-provider is not in {CACHE}: run tests/install-servers")
    port = free_port()
    found = Provider(f"http://127.0.0.1:{port}", folder / "oidc-people.json")
    found.secret = secrets.token_urlsafe(24)
    found.set_people({})
    given = {
        "module": str(OIDC_MODULE),
        "people": str(found.people),
        "url": found.url,
        "port": port,
        "secret": found.secret,
        "redirects": redirects,
        "userinfo": userinfo,
    }
    with (folder / "oidc.log").open("wb") as log:
        child = subprocess.Popen(
            ["node", str(BESIDE / "oidc_provider.mjs")],
            env={**os.environ, "OIDC_PROVIDER": json.dumps(given), "NODE_ENV": "production"},
            stdout=log,
            stderr=log,
        )
    with _ended(child):
        _ready(child, f"{found.url}/.well-known/openid-configuration", folder / "oidc.log")
        yield found


@contextmanager
def saml_provider(folder: Path, *, signs: str = "assertion") -> Iterator[Provider]:
    """`signs`: the assertion, or the response around it."""
    if shutil.which("php") is None or not SIMPLESAML.is_dir():
        pytest.skip(f"SimpleSAMLphp is not in {CACHE}, or php is missing: tests/install-servers")
    place = folder / "saml"
    for part in (place, place / "metadata", place / "tmp"):
        part.mkdir()
    names = ("config.php", "authsources.php")
    for name in (*names, "metadata/saml20-idp-hosted.php", "metadata/saml20-sp-remote.php"):
        included = f"<?php $including = __FILE__; include '{BESIDE}/saml_provider.php';\n"
        (place / name).write_text(included)
    (place / "sp.json").write_text("{}")
    _key_pair(place)
    port = free_port()
    found = Provider(f"http://127.0.0.1:{port}", place / "people.json")
    found.set_people({})
    quiet = ["-d", "display_errors=0", "-d", "error_reporting=0", "-d", "opcache.enable=0"]
    environment = {
        "SIMPLESAMLPHP_CONFIG_DIR": str(place),
        "SAML_PROVIDER_FOLDER": str(place),
        "SAML_PROVIDER_URL": found.url,
        "SAML_PROVIDER_SALT": secrets.token_hex(16),
        "SAML_PROVIDER_SIGNS": signs,
    }
    with (folder / "saml.log").open("wb") as log:
        child = subprocess.Popen(
            ["php", *quiet, "-S", f"127.0.0.1:{port}", "-t", str(SIMPLESAML / "www")],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
    with _ended(child):
        answer = _ready(child, f"{found.url}/saml2/idp/metadata.php", folder / "saml.log")
        found.metadata = answer.text
        yield found


def knows_gateway(provider: Provider, entity_id: str, acs_url: str, **more: Any) -> None:
    """Register the gateway at the SAML provider."""
    known = {entity_id: {"AssertionConsumerService": acs_url, **more}}
    (provider.people.parent / "sp.json").write_text(json.dumps(known))


def _key_pair(place: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += [
        "-subj",
        "/CN=idp",
        "-keyout",
        str(place / "idp.key"),
        "-out",
        str(place / "idp.crt"),
    ]
    subprocess.run(command, check=True, capture_output=True)


def _ready(child: subprocess.Popen[bytes], url: str, log: Path) -> httpx.Response:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and child.poll() is None:
        try:
            answer = httpx.get(url, trust_env=False)
            if answer.status_code == 200:
                return answer
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the provider did not start: {log.read_text()[-2000:]}")


@contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        child.kill()
        child.wait()
