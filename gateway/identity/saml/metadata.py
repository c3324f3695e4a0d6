# SPDX-License-Identifier: GPL-3.0-or-later
"""Metadata: what the provider says of itself, from a file that was fetched once; and our own."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from cryptography import x509
from lxml import etree

from gateway.identity.saml.parsing import DS, MD, BadXml, all_of, attribute, parsed, text_of
from gateway.outgoing import checked_url

METADATA_CAP = 16 << 20
"""A federation's aggregate is large; it is the operator's own file."""
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
CERTIFICATES_CAP = 8


class BadMetadata(ValueError):
    """The file does not say what is needed; the text tells what is missing."""


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """Where a provider takes requests, and the certificates that it signs with."""

    sso_url: str
    certificates: tuple[x509.Certificate, ...]


def read_metadata(data: bytes, entity_id: str) -> ProviderMetadata:
    """The provider `entity_id` out of its metadata. Raises BadMetadata."""
    try:
        root = parsed(_without_comments(data), cap=METADATA_CAP)
    except BadXml as error:
        raise BadMetadata(f"not metadata ({error})") from None
    entities = [one for one in all_of(root, f"{MD}EntityDescriptor")]
    mine = [one for one in entities if attribute(one, "entityID") == entity_id]
    if len(mine) != 1:
        known = ", ".join(attribute(one, "entityID") for one in entities[:3])
        raise BadMetadata(f"no entity {entity_id!r} in it; it has {known or 'none'}")
    roles = [
        one
        for one in mine[0].findall(f"{MD}IDPSSODescriptor")
        if PROTOCOL in attribute(one, "protocolSupportEnumeration").split()
    ]
    if not roles:
        raise BadMetadata("the entity is no SAML 2.0 identity provider")
    return ProviderMetadata(_sso_url(roles[0]), _signing_certificates(roles[0]))


def _without_comments(data: bytes) -> bytes:
    """Nothing here is signed or compared, and some providers explain their metadata in comments."""
    if len(data) > METADATA_CAP or b"<!DOCTYPE" in data:
        return data
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        return bytes(etree.tostring(etree.fromstring(data, parser), encoding="utf-8"))
    except (etree.XMLSyntaxError, ValueError):
        return data


def _sso_url(role: etree._Element) -> str:
    for service in role.findall(f"{MD}SingleSignOnService"):
        if attribute(service, "Binding") == REDIRECT:
            try:
                return checked_url(attribute(service, "Location"))
            except ValueError as error:
                raise BadMetadata(f"SingleSignOnService {error}") from None
    raise BadMetadata("no SingleSignOnService with the HTTP-Redirect binding")


def _signing_certificates(role: etree._Element) -> tuple[x509.Certificate, ...]:
    found = []
    for key in role.findall(f"{MD}KeyDescriptor"):
        if attribute(key, "use") in ("", "signing"):
            found += [_certificate(one) for one in all_of(key, f"{DS}X509Certificate")]
    return _usable(found)


def _certificate(element: etree._Element) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(base64.b64decode("".join(text_of(element).split())))
    except (ValueError, BadXml):
        raise BadMetadata("a certificate in it cannot be read") from None


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Certificates that are pinned by a file of their own. Raises BadMetadata."""
    try:
        return _usable(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise BadMetadata("not certificates in PEM") from None


def _usable(found: list[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    certificates = tuple(dict.fromkeys(found))
    if not 0 < len(certificates) <= CERTIFICATES_CAP:
        raise BadMetadata(f"{len(certificates)} signing certificates, not 1 to {CERTIFICATES_CAP}")
    return certificates


def own_metadata(entity_id: str, acs_url: str) -> str:
    """What the provider needs to know of this gateway (SAML metadata 2.4.4)."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"'
        f" entityID={quoteattr(entity_id)}>\n"
        '  <md:SPSSODescriptor AuthnRequestsSigned="false" WantAssertionsSigned="true"'
        f' protocolSupportEnumeration="{PROTOCOL}">\n'
        f'    <md:AssertionConsumerService Binding="{POST}" Location={quoteattr(acs_url)}'
        ' index="0" isDefault="true"/>\n'
        "  </md:SPSSODescriptor>\n"
        "</md:EntityDescriptor>\n"
    )
