# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where an XML signature is believed: everything about it is pinned beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from gateway.identity.saml.parsing import DS, BadXml, attribute, children, only

EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
METHODS = frozenset(
    {
        SignatureMethod.RSA_SHA256,
        SignatureMethod.RSA_SHA384,
        SignatureMethod.RSA_SHA512,
        SignatureMethod.SHA256_RSA_MGF1,
        SignatureMethod.SHA384_RSA_MGF1,
        SignatureMethod.SHA512_RSA_MGF1,
        SignatureMethod.ECDSA_SHA256,
        SignatureMethod.ECDSA_SHA384,
        SignatureMethod.ECDSA_SHA512,
    }
)
"""signxml's own list holds HMAC, whose key would be the provider's public certificate."""
DIGESTS = frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512})
CONFIGURATION = SignatureConfiguration(
    require_x509=True,
    location="./",
    expect_references=1,
    signature_methods=METHODS,
    digest_algorithms=DIGESTS,
)


def verified(element: etree._Element, certificates: Sequence[x509.Certificate]) -> etree._Element:
    """The element as it was signed, made anew from the signed bytes. Raises BadXml.

    Its signature must be its own child, must cover it by its ID, and must verify with one of
    `certificates`; what the signature says of keys is not looked at. Nothing outside of what is
    returned may be believed.
    """
    signature = only(element, f"{DS}Signature", "signature")
    _check_form(signature, attribute(element, "ID"))
    # Serialised alone, so that a reference finds nothing but this element.
    alone = etree.tostring(element, with_tail=False)
    failures = []
    for certificate in certificates:
        try:
            result = XMLVerifier().verify(
                alone, x509_cert=certificate, id_attribute="ID", expect_config=CONFIGURATION
            )
        except (SignXMLException, etree.LxmlError, ValueError, KeyError, TypeError) as error:
            failures.append(f"{type(error).__name__}: {error}"[:200])
            continue
        signed = None if isinstance(result, list) else result.signed_xml
        if signed is None or signed.tag != element.tag or signed.get("ID") != element.get("ID"):
            raise BadXml("signature", "what was signed is another element")
        return signed
    raise BadXml("signature", "; ".join(failures) or "no certificate to verify with")


def _check_form(signature: etree._Element, owner: str) -> None:
    """One reference, to the parent, by listed methods: all read before anything is computed."""
    info = only(signature, f"{DS}SignedInfo", "signature")
    if children(signature, f"{DS}Object"):
        raise BadXml("signature", "the signature holds an Object")
    canonical = attribute(only(info, f"{DS}CanonicalizationMethod", "signature"), "Algorithm")
    method = attribute(only(info, f"{DS}SignatureMethod", "signature"), "Algorithm")
    reference = only(info, f"{DS}Reference", "references")
    if not owner or attribute(reference, "URI") != f"#{owner}":
        raise BadXml("reference", "the signature does not cover its own parent")
    if method not in {one.value for one in METHODS}:
        raise BadXml("algorithm", f"signature method {method[:100]}")
    digest = attribute(only(reference, f"{DS}DigestMethod", "signature"), "Algorithm")
    if digest not in {one.value for one in DIGESTS}:
        raise BadXml("algorithm", f"digest method {digest[:100]}")
    steps = only(reference, f"{DS}Transforms", "transforms")
    named = [attribute(step, "Algorithm") for step in steps]
    if canonical != EXCLUSIVE or named != [ENVELOPED, EXCLUSIVE]:
        raise BadXml("transforms", "other than enveloped-signature and exclusive c14n")
