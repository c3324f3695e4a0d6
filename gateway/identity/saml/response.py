# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider's answer (SAML core 3.3.3, profiles 4.1.4): what must hold for it to be a login."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from lxml import etree

from gateway.identity.claims import GROUPS_CAP
from gateway.identity.saml.parsing import (
    DS,
    SAML,
    SAMLP,
    BadXml,
    all_of,
    attribute,
    children,
    only,
    parsed,
    text_of,
    time_of,
)
from gateway.identity.saml.signatures import verified

LEEWAY = 60.0
"""Seconds that the provider's clock may differ from ours."""
LONGEST_ASSERTION = 86400.0
"""A bearer assertion that says to be good for longer would fill the memory of those seen."""
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
CONDITIONS = {f"{SAML}AudienceRestriction", f"{SAML}OneTimeUse", f"{SAML}ProxyRestriction"}


@dataclass(frozen=True, slots=True)
class SamlProvider:
    """A SAML identity provider that the gateway trusts, and what was agreed with it."""

    name: str
    url: str
    """Its entity id: the issuer of its persons' identities."""
    audience: str
    """Our entity id there."""
    sso_url: str
    certificates: tuple[x509.Certificate, ...]
    claims: Mapping[str, str] = field(default_factory=dict)
    """Which attribute says what; the subject's default, `sub`, is the NameID."""
    session_seconds: float = 28800.0


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a verified assertion says. Times are seconds since the epoch."""

    id: str
    in_response_to: str
    name_id: str
    name_id_format: str
    attributes: Mapping[str, tuple[str, ...]]
    good_until: float
    """After this the same assertion would be refused for its age."""
    authenticated_at: float
    session_until: float | None
    session_index: str
    context: str
    """How the person was authenticated (AuthnContextClassRef)."""


def read_response(data: bytes, provider: SamlProvider, acs_url: str, now: float) -> Assertion:
    """The one assertion of a response. Raises BadXml, whose `reason` names what was wrong.

    Which request it answers, and whether it was seen before, is for the caller to look up.
    """
    response = parsed(data)
    if response.tag != f"{SAMLP}Response":
        raise BadXml("response", "the document is no samlp:Response")
    _check_shape(response)
    _check_status(response)
    element = _signed_assertion(response, provider.certificates, acs_url)
    if attribute(element, "Version") != "2.0":
        raise BadXml("version", "an assertion of another version")
    issuer = text_of(only(element, f"{SAML}Issuer", "issuer"))
    if issuer != provider.url:
        raise BadXml("issuer", f"the assertion's issuer is {issuer[:200]!r}")
    _check_conditions(element, provider.audience, now)
    assertion = _assertion(element, acs_url, now)
    _check_response(response, provider, acs_url, assertion)
    return assertion


def _check_shape(response: etree._Element) -> None:
    """Exactly one assertion in all, where it belongs, and no signature anywhere else.

    What is wrapped around, moved aside or hidden in an extension fails here.
    """
    if len(list(all_of(response, f"{SAMLP}Response"))) != 1:
        raise BadXml("response", "a response within the response")
    if next(all_of(response, f"{SAML}EncryptedAssertion"), None) is not None:
        raise BadXml("encrypted", "encrypted assertions are not taken: have it send signed ones")
    assertions = list(all_of(response, f"{SAML}Assertion"))
    if len(assertions) != 1:
        raise BadXml("assertions", f"{len(assertions)} assertions, not one")
    if assertions[0].getparent() is not response:
        raise BadXml("assertions", "the assertion is not directly in the response")
    signatures = list(all_of(response, f"{DS}Signature"))
    parents = [one.getparent() for one in signatures]
    if any(parent is not response and parent is not assertions[0] for parent in parents):
        raise BadXml("signature", "a signature stands where none belongs")
    if not signatures:
        raise BadXml("unsigned", "neither the response nor its assertion is signed")


def _check_status(response: etree._Element) -> None:
    status = only(response, f"{SAMLP}Status", "status")
    code = attribute(only(status, f"{SAMLP}StatusCode", "status"), "Value")
    if code != SUCCESS:
        raise BadXml("status", f"the provider answers {code[:200]}")


def _signed_assertion(
    response: etree._Element, certificates: Sequence[x509.Certificate], acs_url: str
) -> etree._Element:
    """The assertion out of what was signed: by the response's signature, its own, or both."""
    holder = response
    if children(response, f"{DS}Signature"):
        holder = verified(response, certificates)
        if attribute(holder, "Destination") != acs_url:
            raise BadXml("destination", "a signed response must name where it was sent")
    assertion = only(holder, f"{SAML}Assertion", "assertions")
    if children(assertion, f"{DS}Signature"):
        assertion = verified(assertion, certificates)
    elif holder is response:
        raise BadXml("unsigned", "the assertion is covered by no signature")
    return assertion


def _check_response(
    response: etree._Element, provider: SamlProvider, acs_url: str, assertion: Assertion
) -> None:
    """What the response says around the assertion may be unsigned; it must not contradict."""
    if attribute(response, "Version") != "2.0":
        raise BadXml("version", "a response of another version")
    if response.get("Destination") not in (None, acs_url):
        raise BadXml("destination", "the response was sent to another place")
    if response.get("InResponseTo") not in (None, assertion.in_response_to):
        raise BadXml("in_response_to", "response and assertion answer different requests")
    for issuer in children(response, f"{SAML}Issuer"):
        if text_of(issuer) != provider.url:
            raise BadXml("issuer", "the response's issuer is another")


def _check_conditions(assertion: etree._Element, audience: str, now: float) -> None:
    conditions = only(assertion, f"{SAML}Conditions", "conditions")
    _check_window(conditions, now)
    if unknown := [one.tag for one in conditions if one.tag not in CONDITIONS]:
        # SAML core 2.5.1.1: a condition that is not understood leaves the assertion undecided.
        raise BadXml("conditions", f"a condition that is not understood: {unknown[0]!s:.100}")
    restrictions = children(conditions, f"{SAML}AudienceRestriction")
    if not restrictions:
        raise BadXml("audience", "the assertion is for nobody in particular")
    for restriction in restrictions:
        if audience not in [text_of(one) for one in children(restriction, f"{SAML}Audience")]:
            raise BadXml("audience", "the assertion is for another audience")


def _check_window(element: etree._Element, now: float) -> None:
    before, after = element.get("NotBefore"), element.get("NotOnOrAfter")
    if before is not None and now + LEEWAY < time_of(before):
        raise BadXml("early", "the assertion is not valid yet: check the clocks")
    if after is not None and now - LEEWAY >= time_of(after):
        raise BadXml("expired", "the assertion has expired")


def _assertion(element: etree._Element, acs_url: str, now: float) -> Assertion:
    subject = only(element, f"{SAML}Subject", "subject")
    name_id = only(subject, f"{SAML}NameID", "subject")
    in_response_to, good_until = _confirmed(subject, acs_url, now)
    statement = only(element, f"{SAML}AuthnStatement", "statement")
    authenticated_at = time_of(attribute(statement, "AuthnInstant"), "statement")
    if authenticated_at > now + LEEWAY:
        raise BadXml("statement", "the person was authenticated in the future")
    ends = statement.get("SessionNotOnOrAfter")
    session_until = None if ends is None else time_of(ends)
    if session_until is not None and session_until <= now:
        raise BadXml("session", "the session at the provider has ended")
    context = statement.find(f"{SAML}AuthnContext/{SAML}AuthnContextClassRef")
    return Assertion(
        id=attribute(element, "ID"),
        in_response_to=in_response_to,
        name_id=text_of(name_id),
        name_id_format=attribute(name_id, "Format"),
        attributes=_attributes(element),
        good_until=good_until + LEEWAY,
        authenticated_at=authenticated_at,
        session_until=session_until,
        session_index=attribute(statement, "SessionIndex")[:256],
        context="" if context is None else text_of(context)[:256],
    )


def _confirmed(subject: etree._Element, acs_url: str, now: float) -> tuple[str, float]:
    """The request that is answered, and until when: of the one bearer confirmation that holds.

    SAML profiles 4.1.4.2: Recipient and NotOnOrAfter must be there, NotBefore must not.
    """
    failures = []
    for confirmation in children(subject, f"{SAML}SubjectConfirmation"):
        if attribute(confirmation, "Method") != BEARER:
            continue
        try:
            data = only(confirmation, f"{SAML}SubjectConfirmationData", "confirmation")
            return _bearer(data, acs_url, now)
        except BadXml as failure:
            failures.append(failure)
    raise failures[0] if failures else BadXml("confirmation", "no bearer confirmation")


def _bearer(data: etree._Element, acs_url: str, now: float) -> tuple[str, float]:
    if attribute(data, "Recipient") != acs_url:
        raise BadXml("recipient", "the assertion was made for another place")
    if data.get("NotBefore") is not None or data.get("NotOnOrAfter") is None:
        raise BadXml("confirmation", "NotBefore is there, or NotOnOrAfter is missing")
    _check_window(data, now)
    good_until = time_of(attribute(data, "NotOnOrAfter"))
    if good_until > now + LONGEST_ASSERTION:
        raise BadXml("confirmation", "the assertion is good for over a day")
    if not attribute(data, "InResponseTo"):
        raise BadXml("unsolicited", "it answers no request: begin at the gateway")
    return attribute(data, "InResponseTo"), good_until


def _attributes(assertion: etree._Element) -> dict[str, tuple[str, ...]]:
    """Values by attribute name; those that hold XML are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for statement in children(assertion, f"{SAML}AttributeStatement"):
        for one in children(statement, f"{SAML}Attribute"):
            values = children(one, f"{SAML}AttributeValue")
            if len(values) > GROUPS_CAP:
                raise BadXml("size", f"an attribute has over {GROUPS_CAP} values")
            texts = tuple(text_of(value) for value in values if not len(value))
            name = attribute(one, "Name")
            found[name] = (*found.get(name, ()), *texts)
    return found
