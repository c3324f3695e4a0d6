# SPDX-License-Identifier: GPL-3.0-or-later
"""From a person who goes to a SAML provider to what its answer proves."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import secrets
import zlib
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit
from xml.sax.saxutils import escape, quoteattr

from gateway.identity.claims import groups_claim, name_claim, text_claim
from gateway.identity.handles import token_sha256
from gateway.identity.login.ports import Verified
from gateway.identity.names import Names
from gateway.identity.refusal import refused
from gateway.identity.saml.parsing import XML_CAP, BadXml, attribute, instant, parsed
from gateway.identity.saml.response import TRANSIENT, Assertion, SamlProvider, read_response
from gateway.model import Identity, Refused

log = logging.getLogger(__name__)

_TOLD = {
    "encrypted": "the provider sends encrypted assertions: have it send signed ones",
    "expired": "the provider's answer has expired: log in again",
    "early": "the provider's answer is not valid yet: check the clocks",
    "status": "the provider did not log you in",
    "unsolicited": "begin at the gateway: trailgate login",
    "transient": "the provider gives another name at each login: map claims.subject",
}
"""What a person can do something about; of everything else only the log tells."""


def new_request_id() -> str:
    """An xs:ID that nobody can guess: the answer must name it."""
    return "_" + secrets.token_hex(20)


def request_url(provider: SamlProvider, request_id: str, acs_url: str, now: float) -> str:
    """Where to send the browser: an AuthnRequest by the redirect binding (SAML bindings 3.4)."""
    request = (
        '<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"'
        ' xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"'
        f' ID={quoteattr(request_id)} Version="2.0" IssueInstant="{instant(now)}"'
        f" Destination={quoteattr(provider.sso_url)}"
        f" AssertionConsumerServiceURL={quoteattr(acs_url)}"
        ' ProtocolBinding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST">'
        f"<saml:Issuer>{escape(provider.audience)}</saml:Issuer></samlp:AuthnRequest>"
    )
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(request.encode()) + packer.flush()
    query = urlencode({"SAMLRequest": base64.b64encode(packed).decode()})
    separator = "&" if urlsplit(provider.sso_url).query else "?"
    return f"{provider.sso_url}{separator}{query}"


async def read_answer(
    encoded: str, provider: SamlProvider, acs_url: str, now: float
) -> tuple[Assertion, Mapping[str, object]]:
    """The assertion in a posted SAMLResponse, and its claims. Raises Refused."""
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
        if len(data) > XML_CAP:
            raise BadXml("size", f"over {XML_CAP} bytes")
        # Signatures and schemas take milliseconds: not on the loop.
        assertion = await asyncio.to_thread(read_response, data, provider, acs_url, now)
        return assertion, _claims(assertion, provider)
    except binascii.Error:
        raise _refusal(provider, BadXml("malformed", "not base64")) from None
    except BadXml as error:
        raise _refusal(provider, error) from None


async def answers_request(encoded: str) -> str:
    """What a response that was refused says it answers, unproved; empty: it does not say."""
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
        response = await asyncio.to_thread(parsed, data)
    except (binascii.Error, BadXml):
        return ""
    return attribute(response, "InResponseTo")


def _refusal(provider: SamlProvider, error: BadXml) -> Refused:
    told = _TOLD.get(error.reason, "the provider's answer was refused; the gateway's log says why")
    return refused(told, f"issuer {provider.name}: {error}", code="bad_token")


def _claims(assertion: Assertion, provider: SamlProvider) -> dict[str, object]:
    """Attributes as claims: the subject's must have one value, of a name's the first is taken."""
    subject = provider.claims.get("subject", "sub")
    if subject == "sub" and assertion.name_id_format == TRANSIENT:
        raise BadXml("transient", "the NameID is transient")
    found: dict[str, object] = {name: list(values) for name, values in assertion.attributes.items()}
    for use, name in (("subject", subject), ("name", provider.claims.get("name", "name"))):
        values = assertion.attributes.get(name, ())
        if use == "subject" and len(values) > 1:
            raise BadXml("subject", f"attribute {name} has {len(values)} values")
        if values and name != provider.claims.get("groups", "groups"):
            found[name] = values[0]
    return {**found, "sub": assertion.name_id}


def verified_by(
    assertion: Assertion,
    claims: Mapping[str, object],
    provider: SamlProvider,
    names: Names,
    now: float,
) -> Verified:
    """Who logged in, and for how long. Raises Refused."""
    subject = text_claim(claims, provider.claims.get("subject", "sub"))
    claimed = name_claim(claims, provider.claims.get("name", "name"))
    name = names.shown(provider.url, provider.name, subject, claimed)
    ends = now + provider.session_seconds
    return Verified(
        identity=Identity(provider.url, subject, name, "person"),
        groups=groups_claim(claims, provider.claims.get("groups", "groups")),
        expires_at=min(ends, assertion.session_until or ends),
        login={
            "iss": provider.url,
            "issuer": provider.name,
            "method": "saml",
            "jti": assertion.id[:256],
            "proof_sha256": token_sha256(assertion.id),
            "auth_time": assertion.authenticated_at,
            "acr": assertion.context or None,
        },
    )
