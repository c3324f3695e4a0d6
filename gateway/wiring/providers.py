# SPDX-License-Identifier: GPL-3.0-or-later
"""Where people log in: OpenID and SAML providers, made of issuer objects."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config import IssuerObject, Objects
from gateway.credentials.master import VaultFailed
from gateway.credentials.sealer import Sealer
from gateway.identity.login.ports import CannotOpen
from gateway.identity.login.relying import OidcProvider
from gateway.identity.oidc import Issuer
from gateway.identity.refusal import unavailable
from gateway.identity.saml.metadata import ProviderMetadata, read_certificates, read_metadata
from gateway.identity.saml.response import SamlProvider

Providers = tuple[list[OidcProvider], list[SamlProvider]]


class SealedTokens:
    """The vault of refresh tokens (identity/login/ports.py), on the gateway's own sealer."""

    PURPOSE = "refresh-tokens"

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    async def seal(self, secret: bytes) -> bytes:
        try:
            return await self._sealer.seal(self.PURPOSE, secret)
        except VaultFailed as error:
            raise unavailable("the gateway cannot keep the login; try again", str(error)) from error

    async def open(self, sealed: bytes) -> bytes:
        try:
            return await self._sealer.open(self.PURPOSE, sealed)
        except VaultFailed as error:
            raise CannotOpen(str(error)) from error


def providers_of(objects: Objects, issuers: Iterable[Issuer]) -> Providers:
    """Where people log in. Reads files; raises ValueError, OSError where one has gone bad."""
    return oidc_providers(objects, issuers), saml_providers(objects)


def oidc_providers(objects: Objects, issuers: Iterable[Issuer]) -> list[OidcProvider]:
    """The issuers at which the gateway is a client."""
    declared = [(objects.issuers[issuer.name], issuer) for issuer in issuers]
    return [_oidc(one, issuer) for one, issuer in declared if one.client_id]


def _oidc(one: IssuerObject, issuer: Issuer) -> OidcProvider:
    return OidcProvider(
        issuer=issuer,
        client_id=one.client_id,
        client_secret=one.client_secret.value if one.client_secret else "",
        scopes=one.scopes,
        redirect=one.redirect,
        session_seconds=one.session_seconds,
    )


def saml_providers(objects: Objects) -> list[SamlProvider]:
    return [saml_provider(one) for one in objects.issuers.values() if one.kind == "saml"]


def saml_provider(one: IssuerObject) -> SamlProvider:
    """What was agreed with a SAML provider. Raises ValueError, OSError."""
    known = ProviderMetadata("", ())
    if one.metadata_path is not None:
        known = read_metadata(one.metadata_path.read_bytes(), one.url)
    pinned = known.certificates
    if one.certificate_path is not None:
        pinned = read_certificates(one.certificate_path.read_bytes())
    claims = {
        "subject": one.claims.subject,
        "groups": one.claims.groups,
        "name": one.claims.name,
    }
    return SamlProvider(
        name=one.issuer,
        url=one.url,
        audience=one.audience,
        sso_url=one.sso_url or known.sso_url,
        certificates=pinned,
        claims=claims,
        session_seconds=one.session_seconds,
    )
