# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/logins.md: its objects load together, and what it tells providers to be given is so."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.admin.api.login import ROUTES
from gateway.config import load_objects
from gateway.identity.login.flows import LASTS
from gateway.identity.login.refreshing import EVERY, GRACE
from gateway.identity.saml.response import SamlProvider
from gateway.wiring.parts import issuers_of, names_of
from gateway.wiring.providers import oidc_providers, saml_providers
from tests.identity.saml_signing import Idp, idp_metadata
from tests.pages import ROOT, blocks

LOGINS = ROOT / "docs" / "logins.md"
PAGE = LOGINS.read_text("utf-8")


def test_the_examples_load_together_and_people_log_in_at_each(tmp_path: Path) -> None:
    idp = Idp()
    for name in ("keycloak-secret", "okta-secret", "entra-secret"):
        (tmp_path / name).write_text("s3cret")
        (tmp_path / name).chmod(0o600)
    metadata = idp_metadata("https://idp.example.com/saml", certificates=(idp.certificate,))
    (tmp_path / "idp-metadata.xml").write_text(metadata)
    pem = Idp().certificate.public_bytes(Encoding.PEM)
    (tmp_path / "entra.pem").write_bytes(pem)
    texts = [block.text for block in blocks(LOGINS, "yaml")]
    (tmp_path / "objects.yaml").write_text("---\n".join(texts))
    objects, warnings = load_objects([tmp_path / "objects.yaml"])
    assert warnings == ()
    by_name = {one.name: one for one in oidc_providers(objects, issuers_of(objects))}
    assert set(by_name) == {"corp", "okta", "entra"}
    assert by_name["okta"].session_seconds == 43200 and by_name["corp"].client_secret == "s3cret"
    saml = {one.name: one for one in saml_providers(objects)}
    assert saml["corp-saml"].certificates == (idp.certificate,)
    assert saml["entra-saml"].sso_url.endswith("/saml2")
    names = names_of(objects)
    assert names.declared("https://idp.example.com/saml", "alice@example.com") == "alice"
    assert len(names.kin("https://idp.example.com/saml", "alice@example.com")) == 2
    _check_audiences(saml)


def _check_audiences(saml: dict[str, SamlProvider]) -> None:
    for name, provider in saml.items():
        assert provider.audience.endswith(f"/login/saml/{name}/metadata")


def test_every_example_is_of_an_issuer_or_a_person() -> None:
    kinds = [next(iter(yaml.safe_load(block.text))) for block in blocks(LOGINS, "yaml")]
    assert set(kinds) == {"issuer", "person"}


def test_the_addresses_that_providers_are_given_are_served() -> None:
    served = {route.path.replace("{issuer}", "NAME") for route in ROUTES}
    named = set(re.findall(r"https://GATEWAY(/login/[\w/]+)", PAGE))
    assert len(named) == 3 and named <= served


def test_the_times_that_are_told_are_those_in_force() -> None:
    assert (LASTS, EVERY, GRACE) == (600.0, 300.0, 60.0)
    assert "for ten minutes" in PAGE and "Every five minutes" in PAGE
    assert "asked again for a minute" in PAGE
