# SPDX-License-Identifier: GPL-3.0-or-later
"""What an issuer object must say so that people can log in there, by OpenID or by SAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gateway.identity.saml.metadata import BadMetadata, read_certificates, read_metadata
from gateway.outgoing import checked_url

if TYPE_CHECKING:
    from gateway.config.references import Written

OWN_ISSUERS = "trailgate:"
OIDC_ONLY = ("client_id", "client_secret", "redirect")
SAML_ONLY = ("metadata_path", "sso_url", "certificate_path")
LONGEST_SESSION = 30 * 86400.0


def check_login(one: Written) -> None:
    """Note each mistake of an issuer's settings for logins, at its place."""
    at, issuer = f"issuer {one.name}", one.value
    if issuer.url.startswith(OWN_ISSUERS):
        # An entity id may be any URI: it must not be whom the gateway itself vouches for.
        message = f"{at}.url: {OWN_ISSUERS} is for issuers of the gateway's own"
        one.reader.wrong(one.at("url"), message, "write the provider's entity id")
    if not 60 <= issuer.session_seconds <= LONGEST_SESSION:
        cure = "write 60 to 2592000"
        one.reader.wrong(one.at("session_seconds"), f"{at}.session_seconds is out of bounds", cure)
    foreign = SAML_ONLY if issuer.kind == "oidc" else OIDC_ONLY
    for key in foreign:
        if getattr(issuer, key):
            one.reader.wrong(one.at(key), f"{at}.{key} is not for kind: {issuer.kind}", "remove it")
    if issuer.kind == "saml":
        _check_saml(one, at, issuer)
    elif issuer.client_id:
        _check_oidc(one, at, issuer)
    elif issuer.client_secret is not None or issuer.redirect:
        one.reader.wrong(one.node, f"{at}: no client_id, so nobody logs in there", "add client_id")


def _check_oidc(one: Written, at: str, issuer: Any) -> None:
    if issuer.subjects != "person":
        cure = "remove client_id, or subjects: workload"
        one.reader.wrong(one.at("client_id"), f"{at}: only persons log in", cure)
    if "openid" not in issuer.scopes:
        message = f"{at}.scopes: without openid no login is proved"
        one.reader.wrong(one.at("scopes"), message, "add openid")
    if issuer.redirect and not _is_safe(issuer.redirect):
        cure = "write https://HOST/login/oidc/NAME/callback"
        one.reader.wrong(one.at("redirect"), f"{at}.redirect: codes are not safe there", cure)


def _check_saml(one: Written, at: str, issuer: Any) -> None:
    for key in ("url", "audience"):
        if not getattr(issuer, key):
            one.reader.wrong(one.at(key), f"{at}.{key} is empty", "write the entity id")
    if issuer.subjects != "person":
        one.reader.wrong(one.at("subjects"), f"{at}: only persons log in by SAML", "remove it")
    if issuer.metadata_path is None and not (issuer.sso_url and issuer.certificate_path):
        cure = "add metadata_path, or sso_url and certificate_path"
        one.reader.wrong(one.node, f"{at}: how the provider signs is not said", cure)
    if issuer.sso_url and not _is_safe(issuer.sso_url):
        cure = "write https://HOST/..."
        one.reader.wrong(one.at("sso_url"), f"{at}.sso_url: logins are not safe there", cure)
    _check_documents(one, at, issuer)


def _check_documents(one: Written, at: str, issuer: Any) -> None:
    for key in ("metadata_path", "certificate_path"):
        path = getattr(issuer, key)
        if path is None:
            continue
        try:
            if key == "metadata_path":
                read_metadata(path.read_bytes(), issuer.url)
            else:
                read_certificates(path.read_bytes())
        except (OSError, BadMetadata) as error:
            said = getattr(error, "strerror", None) or str(error)
            message = f"{at}.{key}: {path}: {said}"
            one.reader.wrong(one.at(key), message, "get it from the provider again")


def _is_safe(url: str) -> bool:
    try:
        checked_url(url)
    except ValueError:
        return False
    return not urlsplit(url).fragment
