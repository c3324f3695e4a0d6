# SPDX-License-Identifier: GPL-3.0-or-later
"""Forged, moved, wrapped, altered and stale SAML answers: each is refused for a reason of its own.

XSW1 to XSW8 are the eight wrappings of Somorovsky et al., "On Breaking SAML" (2012).
"""

from __future__ import annotations

import base64
import copy
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from lxml import etree
from signxml import CanonicalizationMethod

from gateway.identity.saml.parsing import DS, SAML, SAMLP, BadXml
from gateway.identity.saml.response import read_response
from tests.identity.saml_signing import ACS, ENTITY, NAMESPACES, Answer, Idp, certificate

IDP = Idp()
OTHER = Idp()
EVIL = "mallory@example.com"


def refusal(xml: str | bytes, idp: Idp = IDP, *, now: float | None = None) -> str:
    """The reason for which an answer is refused; fails where it is not."""
    data = xml.encode() if isinstance(xml, str) else xml
    with pytest.raises(BadXml) as caught:
        read_response(data, idp.provider(), ACS, now or time.time())
    return caught.value.reason


def tree(xml: str) -> etree._Element:
    return etree.fromstring(xml.encode())


def text(root: etree._Element) -> str:
    return etree.tostring(root).decode()


def evil(element: etree._Element, new_id: str) -> etree._Element:
    """A copy with another subject and another ID, without its signature."""
    forged = copy.deepcopy(element)
    for signature in forged.findall(f"{DS}Signature"):
        forged.remove(signature)
    forged.set("ID", new_id)
    for inner in forged.iter(f"{SAML}Assertion"):
        inner.set("ID", new_id if inner is forged else f"{new_id}_assertion")
    for name in forged.iter(f"{SAML}NameID"):
        name.text = EVIL
    return forged


def test_good_answers_are_taken_by_each_way_of_signing() -> None:
    for sign in ("assertion", "response", "both"):
        found = read_response(IDP.answer(sign=sign).encode(), IDP.provider(), ACS, time.time())
        assert found.name_id == "alice@example.com"
        assert found.attributes["groups"] == ("dba", "Domain Users")
        assert found.in_response_to == "_request"


# --- wrapping ------------------------------------------------------------------------------------


def xsw1() -> str:
    """The signed response inside the signature of a forged one."""
    original = tree(IDP.answer(sign="response"))
    forged = evil(original, "_evil")
    signature = copy.deepcopy(original.find(f"{DS}Signature"))
    inside = copy.deepcopy(original)
    inside.remove(inside.find(f"{DS}Signature"))
    signature.append(inside)
    forged.insert(1, signature)
    return text(forged)


def xsw2() -> str:
    """The signed response beside its signature, both in a forged one."""
    original = tree(IDP.answer(sign="response"))
    forged = evil(original, "_evil")
    signature = original.find(f"{DS}Signature")
    original.remove(signature)
    forged.insert(1, original)
    forged.insert(2, signature)
    return text(forged)


def xsw3() -> str:
    """A forged assertion before the signed one."""
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    root.insert(root.index(assertion), evil(assertion, "_evil"))
    return text(root)


def xsw4() -> str:
    """The signed assertion inside a forged one."""
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    forged = evil(assertion, "_evil")
    root.replace(assertion, forged)
    forged.append(assertion)
    return text(root)


def xsw5() -> str:
    """A forged assertion with the signature; the signed one at the end, without it."""
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    forged = evil(assertion, "_evil")
    signature = assertion.find(f"{DS}Signature")
    assertion.remove(signature)
    forged.insert(1, signature)
    root.insert(root.index(assertion), forged)
    return text(root)


def xsw6() -> str:
    """The signed assertion inside the signature of a forged one."""
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    forged = evil(assertion, "_evil")
    signature = assertion.find(f"{DS}Signature")
    assertion.remove(signature)
    root.replace(assertion, forged)
    forged.insert(1, signature)
    signature.append(assertion)
    return text(root)


def xsw7() -> str:
    """A forged assertion hidden in Extensions."""
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    extensions = etree.Element(f"{SAMLP}Extensions")
    extensions.append(evil(assertion, "_assertion2"))
    root.insert(1, extensions)
    return text(root)


def xsw8() -> str:
    """The signed assertion in an Object of the forged one's signature."""
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    forged = evil(assertion, "_evil")
    signature = assertion.find(f"{DS}Signature")
    assertion.remove(signature)
    root.replace(assertion, forged)
    holder = etree.SubElement(signature, f"{DS}Object")
    holder.append(assertion)
    forged.insert(1, signature)
    return text(root)


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (xsw1, "response"),
        (xsw2, "response"),
        (xsw3, "assertions"),
        (xsw4, "assertions"),
        (xsw5, "assertions"),
        (xsw6, "assertions"),
        (xsw7, "assertions"),
        (xsw8, "assertions"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_wrapped_signatures_are_refused(attack: Callable[[], str], reason: str) -> None:
    xml = attack()
    assert EVIL in xml, "the attack does not attack"
    assert refusal(xml) == reason


def renamed_wrapper() -> str:
    """As XSW8, but what is wrapped is no element of SAML's: a count of assertions sees one."""
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    forged = evil(assertion, "_evil")
    signature = assertion.find(f"{DS}Signature")
    assertion.remove(signature)
    assertion.tag = "{urn:x}Assertion"
    root.replace(assertion, forged)
    forged.insert(1, signature)
    etree.SubElement(signature, f"{DS}Object").append(assertion)
    return text(root)


def same_id_twice() -> str:
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    etree.SubElement(root, "{urn:x}Other").set("ID", assertion.get("ID"))
    return text(root)


def id_in_other_case() -> str:
    root = tree(IDP.answer())
    etree.SubElement(root, "{urn:x}Other").set("Id", "_assertion")
    return text(root)


def signature_moved_to_the_response() -> str:
    """The assertion's signature, put where it would cover the response."""
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    signature = assertion.find(f"{DS}Signature")
    assertion.remove(signature)
    root.insert(1, signature)
    assertion.find(f"{SAML}Subject/{SAML}NameID").text = EVIL
    return text(root)


def signature_in_the_subject() -> str:
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    assertion.find(f"{SAML}Subject").append(assertion.find(f"{DS}Signature"))
    return text(root)


def two_signatures() -> str:
    root = tree(IDP.answer())
    assertion = root.find(f"{SAML}Assertion")
    signature = assertion.find(f"{DS}Signature")
    assertion.insert(1, copy.deepcopy(signature))
    return text(root)


def whole_document_reference() -> str:
    """URI="" covers whatever the document is."""
    root = tree(IDP.answer(sign="response"))
    next(root.iter(f"{DS}Reference")).set("URI", "")
    return text(root)


def two_references() -> str:
    root = tree(IDP.answer())
    info = next(root.iter(f"{DS}SignedInfo"))
    info.append(copy.deepcopy(info.find(f"{DS}Reference")))
    return text(root)


def assertion_twice() -> str:
    root = tree(IDP.answer())
    second = copy.deepcopy(root.find(f"{SAML}Assertion"))
    for element in second.iter():
        if "ID" in element.attrib:
            element.set("ID", "_second")
    root.append(second)
    return text(root)


def assertion_deeper() -> str:
    root = tree(IDP.answer())
    holder = etree.SubElement(root, "{urn:x}Holder")
    holder.append(root.find(f"{SAML}Assertion"))
    return text(root)


def response_in_response() -> str:
    root = tree(IDP.answer())
    outer = etree.fromstring(f'<samlp:Response {NAMESPACES} ID="_outer" Version="2.0"/>')
    outer.append(root)
    return text(outer)


def other_namespace() -> str:
    """Elements called as SAML's own, in a namespace that is not SAML's."""
    return IDP.answer().replace("urn:oasis:names:tc:SAML:2.0:assertion", "urn:not:saml")


def renamespaced_name_id() -> str:
    """The signed NameID hidden in another namespace, a forged one beside it."""
    root = tree(IDP.answer())
    subject = next(root.iter(f"{SAML}Subject"))
    name = subject.find(f"{SAML}NameID")
    forged = copy.deepcopy(name)
    forged.text = EVIL
    name.tag = "{urn:x}NameID"
    subject.insert(0, forged)
    return text(root)


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (renamed_wrapper, "signature"),
        (same_id_twice, "ids"),
        (id_in_other_case, "ids"),
        (signature_moved_to_the_response, "reference"),
        (signature_in_the_subject, "signature"),
        (two_signatures, "signature"),
        (whole_document_reference, "reference"),
        (two_references, "references"),
        (assertion_twice, "assertions"),
        (assertion_deeper, "assertions"),
        (response_in_response, "response"),
        (other_namespace, "assertions"),
        (renamespaced_name_id, "signature"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_moved_and_doubled_parts_are_refused(attack: Callable[[], str], reason: str) -> None:
    assert refusal(attack()) == reason


# --- XML -----------------------------------------------------------------------------------------


def with_prefix(prefix: str) -> str:
    return prefix + IDP.answer()


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ('<!DOCTYPE x [<!ENTITY e "mallory">]>' + IDP.answer(), "dtd"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd">' + IDP.answer(), "dtd"),
        ("<!DOCTYPE x>" + IDP.answer(), "dtd"),
        ("<?xml-stylesheet href='x'?>" + IDP.answer(), "instruction"),
        (IDP.answer() + "<!-- after -->", "comment"),
        (IDP.answer().replace("alice@example.com", "alice@example.com<!-- -->.evil"), "comment"),
        (IDP.answer().replace("alice@", "alice<!---->@"), "comment"),
        (IDP.answer().replace("alice@example.com", "alice&nothing;@example.com"), "malformed"),
        (
            IDP.answer().encode().decode().replace("alice", "alic\u00e9").encode("latin-1"),
            "malformed",
        ),
        (IDP.answer().encode("utf-16"), "malformed"),
        (IDP.answer()[:-20], "malformed"),
        (IDP.answer() + IDP.answer(), "malformed"),
        (b"", "malformed"),
        (b"\x00" * 10, "malformed"),
        (b"<a>" * 100 + b"</a>" * 100, "size"),
        (b"<a>" + b"<b/>" * 30_000 + b"</a>", "size"),
        (b"<a>" + b" " * (300 * 1024) + b"</a>", "size"),
        ('<LogoutResponse xmlns="urn:oasis:names:tc:SAML:2.0:protocol"/>', "response"),
    ],
    ids=range(18),
)
def test_xml_that_readers_could_take_for_two_things_is_refused(
    xml: str | bytes, reason: str
) -> None:
    assert refusal(xml) == reason


def test_a_comment_in_the_name_neither_shortens_it_nor_is_signed_over() -> None:
    """CVE-2017-11427: signed for `alice@example.com.evil`, read as `alice@example.com`."""
    longer = Answer(subject="alice@example.com.evil")
    good = IDP.answer(longer)
    assert read_response(good.encode(), IDP.provider(), ACS, time.time()).name_id.endswith(".evil")
    assert refusal(good.replace(".com.evil", ".com<!---->.evil")) == "comment"
    assert refusal(good.replace(".com.evil", ".com<?x?>.evil")) == "instruction"
    # A CDATA section is text to every reader, and the same in canonical form.
    cdata = good.replace(".com.evil", ".com<![CDATA[.evil]]>")
    found = read_response(cdata.encode(), IDP.provider(), ACS, time.time())
    assert found.name_id == "alice@example.com.evil"


# --- signatures ----------------------------------------------------------------------------------


def hmac_signed() -> str:
    """HMAC, keyed with the provider's public certificate."""
    root = tree(IDP.answer())
    method = next(root.iter(f"{DS}SignatureMethod"))
    method.set("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256")
    return text(root)


def altered(path: str, value: str) -> str:
    root = tree(IDP.answer())
    found = next(root.iter(f"{SAML}{path}"))
    found.text = value
    return text(root)


def methods(signature: str, digest: str) -> str:
    root = tree(IDP.answer())
    next(root.iter(f"{DS}SignatureMethod")).set("Algorithm", signature)
    next(root.iter(f"{DS}DigestMethod")).set("Algorithm", digest)
    return text(root)


def transform(algorithm: str) -> str:
    root = tree(IDP.answer())
    steps = next(root.iter(f"{DS}Transforms"))
    etree.SubElement(steps, f"{DS}Transform").set("Algorithm", algorithm)
    return text(root)


def own_key_info() -> str:
    """Signed by another, whose certificate comes along."""
    return OTHER.answer()


def unsigned() -> str:
    given = Answer()
    return given.response(given.assertion())


RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (unsigned(), "unsigned"),
        (own_key_info(), "signature"),
        (hmac_signed(), "algorithm"),
        (methods("http://www.w3.org/2000/09/xmldsig#rsa-sha1", SHA256), "algorithm"),
        (methods(RSA_SHA256, "http://www.w3.org/2000/09/xmldsig#sha1"), "algorithm"),
        (methods("http://www.w3.org/2009/xmldsig11#dsa-sha256", SHA256), "algorithm"),
        (methods("", SHA256), "algorithm"),
        (altered("NameID", EVIL), "signature"),
        (altered("AttributeValue", "admins"), "signature"),
        (transform("http://www.w3.org/TR/1999/REC-xslt-19991116"), "transforms"),
        (transform("http://www.w3.org/TR/1999/REC-xpath-19991116"), "transforms"),
        (transform("http://www.w3.org/2000/09/xmldsig#base64"), "transforms"),
        (
            IDP.answer(c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_0_WITH_COMMENTS),
            "transforms",
        ),
    ],
    ids=range(13),
)
def test_signatures_by_other_means_are_refused(xml: str, reason: str) -> None:
    assert refusal(xml) == reason


def test_a_signature_value_that_is_cut_or_foreign_is_refused() -> None:
    for change in (lambda value: value[:-40], lambda value: base64.b64encode(b"x" * 256).decode()):
        root = tree(IDP.answer())
        value = next(root.iter(f"{DS}SignatureValue"))
        value.text = change("".join((value.text or "").split()))
        assert refusal(text(root)) == "signature"


def test_an_expired_certificate_verifies_nothing() -> None:
    old = Idp(days=-1)
    assert refusal(old.answer(), old) == "signature"


def test_each_pinned_certificate_is_tried_while_a_provider_changes_keys() -> None:
    both = IDP.provider(certificates=(OTHER.certificate, IDP.certificate))
    assert read_response(IDP.answer().encode(), both, ACS, time.time()).name_id
    same_name = certificate(OTHER.key)
    with pytest.raises(BadXml, match="signature"):
        wrong = IDP.provider(certificates=(same_name,))
        read_response(IDP.answer().encode(), wrong, ACS, time.time())


def test_what_only_an_unsigned_response_says_is_not_believed() -> None:
    """Only the assertion is signed: the response around it may be anybody's."""
    xml = IDP.answer().replace('InResponseTo="_request"', 'InResponseTo="_theirs"', 1)
    assert refusal(xml) == "in_response_to"


# --- what it says --------------------------------------------------------------------------------

GOOD = Answer()
LOGOUT = "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"
SAYINGS = [
    (replace(GOOD, audience="https://other.example"), "audience"),
    (replace(GOOD, issuer="https://other-idp.example"), "issuer"),
    (replace(GOOD, recipient="https://other.example/acs"), "recipient"),
    (replace(GOOD, destination="https://other.example/acs"), "destination"),
    (replace(GOOD, status=LOGOUT), "status"),
    (replace(GOOD, now=time.time() - 3600), "expired"),
    (replace(GOOD, now=time.time() + 3600), "early"),
    (replace(GOOD, not_before=3600.0), "early"),
    (replace(GOOD, request=""), "unsolicited"),
    (replace(GOOD, method="urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"), "confirmation"),
    (replace(GOOD, method="urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"), "confirmation"),
    (replace(GOOD, confirmation_extra=' NotBefore="2020-01-01T00:00:00Z"'), "confirmation"),
    (replace(GOOD, lasts=90_000.0), "confirmation"),
    (replace(GOOD, session=-10.0), "session"),
    (replace(GOOD, conditions="<saml:Condition/>"), "conditions"),
    (
        replace(
            GOOD,
            conditions="<saml:AudienceRestriction><saml:Audience>https://other.example"
            "</saml:Audience></saml:AudienceRestriction>",
        ),
        "audience",
    ),
    (replace(GOOD, subject="<saml:NameID>x</saml:NameID>"), "text"),
]


@pytest.mark.parametrize("sign", ["assertion", "response", "both"])
@pytest.mark.parametrize(("answer", "reason"), SAYINGS, ids=range(len(SAYINGS)))
def test_answers_for_others_or_other_times_are_refused(
    answer: Answer, reason: str, sign: str
) -> None:
    assert refusal(IDP.answer(answer, sign)) == reason


def test_a_signed_response_must_name_its_destination() -> None:
    assert refusal(IDP.answer(replace(GOOD, destination=None), "response")) == "destination"
    unsigned_one = IDP.answer(replace(GOOD, destination=None), "assertion")
    assert read_response(unsigned_one.encode(), IDP.provider(), ACS, time.time()).name_id


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("Conditions", "conditions"),
        ("AudienceRestriction", "audience"),
        ("AuthnStatement", "statement"),
        ("Subject", "subject"),
        ("NameID", "subject"),
        ("SubjectConfirmation", "confirmation"),
        ("SubjectConfirmationData", "confirmation"),
    ],
)
def test_what_must_be_there_is_missed(tag: str, reason: str) -> None:
    root = tree(GOOD.response(GOOD.assertion()))
    found = next(root.iter(f"{SAML}{tag}"))
    found.getparent().remove(found)
    assert refusal(IDP.signed(text(root), "_assertion")) == reason


def test_an_assertion_without_issuer_is_refused() -> None:
    xml = IDP.answer()
    assert ENTITY in xml
    root = tree(GOOD.response(GOOD.assertion()))
    assertion = root.find(f"{SAML}Assertion")
    assertion.find(f"{SAML}Issuer").text = ""
    assert refusal(IDP.signed(text(root), "_assertion")) == "issuer"


def test_encrypted_assertions_are_refused_in_clear_words() -> None:
    root = tree(GOOD.response(""))
    etree.SubElement(root, f"{SAML}EncryptedAssertion")
    assert refusal(text(root)) == "encrypted"
