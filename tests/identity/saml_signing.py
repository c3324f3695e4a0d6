# SPDX-License-Identifier: GPL-3.0-or-later
"""A SAML provider for tests: real keys, real XML signatures, every part of an answer to choose."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import CanonicalizationMethod, XMLSigner

from gateway.identity.saml.parsing import DS, SAML, instant
from gateway.identity.saml.response import SamlProvider

ACS = "https://gateway.example/login/saml/corp-saml/acs"
AUDIENCE = "https://gateway.example/login/saml/corp-saml/metadata"
ENTITY = "https://idp.example/saml"
NAMESPACES = (
    'xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"'
    ' xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"'
)


def certificate(key: rsa.RSAPrivateKey, *, days: int = 30) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.example")])
    began = datetime.now(UTC) - timedelta(days=40)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )


@dataclass
class Answer:
    """What a response says; the defaults are one that is let in."""

    request: str = "_request"
    subject: str = "alice@example.com"
    name_format: str = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
    issuer: str = ENTITY
    audience: str = AUDIENCE
    destination: str | None = ACS
    recipient: str = ACS
    status: str = "urn:oasis:names:tc:SAML:2.0:status:Success"
    now: float = field(default_factory=time.time)
    lasts: float = 300.0
    not_before: float = 0.0
    session: float | None = 3600.0
    response_id: str = "_response"
    assertion_id: str = "_assertion"
    attributes: dict[str, list[str]] = field(
        default_factory=lambda: {"groups": ["dba", "Domain Users"], "name": ["Alice"]}
    )
    conditions: str = ""
    method: str = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
    extensions: str = ""
    confirmation_extra: str = ""

    def assertion(self) -> str:
        ends, now = instant(self.now + self.lasts), instant(self.now)
        before = instant(self.now + self.not_before)
        session = (
            ""
            if self.session is None
            else f' SessionNotOnOrAfter="{instant(self.now + self.session)}"'
        )
        request = f' InResponseTo="{self.request}"' if self.request else ""
        told = "".join(
            f'<saml:Attribute Name="{name}">'
            + "".join(f"<saml:AttributeValue>{value}</saml:AttributeValue>" for value in values)
            + "</saml:Attribute>"
            for name, values in self.attributes.items()
        )
        return (
            f'<saml:Assertion {NAMESPACES} ID="{self.assertion_id}" Version="2.0"'
            f' IssueInstant="{now}"><saml:Issuer>{self.issuer}</saml:Issuer>'
            f'<saml:Subject><saml:NameID Format="{self.name_format}">{self.subject}</saml:NameID>'
            f'<saml:SubjectConfirmation Method="{self.method}"><saml:SubjectConfirmationData'
            f' Recipient="{self.recipient}" NotOnOrAfter="{ends}"{request}'
            f"{self.confirmation_extra}/></saml:SubjectConfirmation></saml:Subject>"
            f'<saml:Conditions NotBefore="{before}" NotOnOrAfter="{ends}">'
            f"<saml:AudienceRestriction><saml:Audience>{self.audience}</saml:Audience>"
            f"</saml:AudienceRestriction>{self.conditions}</saml:Conditions>"
            f'<saml:AuthnStatement AuthnInstant="{now}"{session}><saml:AuthnContext>'
            "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password"
            "</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
            f"<saml:AttributeStatement>{told}</saml:AttributeStatement></saml:Assertion>"
        )

    def response(self, assertion: str) -> str:
        to = "" if self.destination is None else f' Destination="{self.destination}"'
        request = f' InResponseTo="{self.request}"' if self.request else ""
        return (
            f'<samlp:Response {NAMESPACES} ID="{self.response_id}" Version="2.0"'
            f' IssueInstant="{instant(self.now)}"{to}{request}>'
            f"<saml:Issuer>{self.issuer}</saml:Issuer>{self.extensions}<samlp:Status>"
            f'<samlp:StatusCode Value="{self.status}"/></samlp:Status>{assertion}</samlp:Response>'
        )


class Idp:
    """Signs answers with a key of its own."""

    def __init__(self, *, days: int = 30) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.certificate = certificate(self.key, days=days)

    def provider(self, **more: Any) -> SamlProvider:
        given = {
            "name": "corp-saml",
            "url": ENTITY,
            "audience": AUDIENCE,
            "sso_url": "https://idp.example/sso",
            "certificates": (self.certificate,),
            **more,
        }
        return SamlProvider(**given)

    def signed(self, xml: str, reference: str, **more: Any) -> str:
        """The element with that ID signed in place, its signature behind its Issuer."""
        root = etree.fromstring(xml.encode())
        (element,) = root.xpath("//*[@ID=$id]", id=reference)
        place = etree.SubElement(element, f"{DS}Signature", nsmap={"ds": DS[1:-1]})
        place.set("Id", "placeholder")
        issuer = element.find(f"{SAML}Issuer")
        element.insert(element.index(issuer) + 1, place)
        given = {
            "signature_algorithm": "rsa-sha256",
            "digest_algorithm": "sha256",
            "c14n_algorithm": CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
            **more,
        }
        alone = etree.fromstring(etree.tostring(element, with_tail=False))
        pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        done = XMLSigner(**given).sign(
            alone, key=self.key, cert=pem.decode(), reference_uri=reference, id_attribute="ID"
        )
        if element is root:
            return etree.tostring(done).decode()
        element.getparent().replace(element, done)
        return etree.tostring(root).decode()

    def answer(self, answer: Answer | None = None, sign: str = "assertion", **more: Any) -> str:
        """A whole response: `sign` is assertion, response or both."""
        given = answer or Answer()
        xml = given.response(given.assertion())
        if sign in ("assertion", "both"):
            xml = self.signed(xml, given.assertion_id, **more)
        if sign in ("response", "both"):
            xml = self.signed(xml, given.response_id, **more)
        return xml


def idp_metadata(
    entity_id: str = ENTITY,
    sso_url: str = "https://idp.example/sso",
    certificates: tuple[x509.Certificate, ...] = (),
) -> str:
    """A provider's metadata, with a comment and an encryption key as real ones have."""
    found = certificates or (Idp().certificate,)
    keys = "".join(
        '<md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>'
        + base64.b64encode(one.public_bytes(serialization.Encoding.DER)).decode()
        + "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        for one in found
    )
    return (
        '<?xml version="1.0"?><!-- made for a test --><md:EntityDescriptor'
        ' xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"'
        f' xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="{entity_id}">'
        '<md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
        f"{keys}<md:SingleSignOnService"
        ' Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://x.example/"/>'
        "<md:SingleSignOnService"
        f' Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="{sso_url}"/>'
        "</md:IDPSSODescriptor></md:EntityDescriptor>"
    )


def encoded(xml: str) -> str:
    return base64.b64encode(xml.encode()).decode()
