# SPDX-License-Identifier: GPL-3.0-or-later
"""XML from outside, read so that every reader of it sees the same document; else it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from xml.parsers import expat

from lxml import etree

XML_CAP = 256 * 1024
ELEMENTS_CAP = 20_000
DEPTH_CAP = 64
SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
MD = "{urn:oasis:names:tc:SAML:2.0:metadata}"
DS = "{http://www.w3.org/2000/09/xmldsig#}"
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"


class BadXml(Exception):
    """The document is not one that we would act on. `reason` is one word, for the log and tests."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def parsed(data: bytes, *, cap: int = XML_CAP) -> etree._Element:
    """The document's root. No DTD, entities, comments, processing instructions; UTF-8 only.

    Raises BadXml.
    """
    if len(data) > cap:
        raise BadXml("size", f"over {cap} bytes")
    _check(data)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, encoding="utf-8"
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BadXml("malformed", type(error).__name__) from None
    _check_ids(root)
    return root


def _check(data: bytes) -> None:
    """Read it once with expat, which tells of everything that must not be there."""
    depth = elements = 0

    def start(name: str, attributes: object) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1
        if depth > DEPTH_CAP or elements > ELEMENTS_CAP:
            raise BadXml("size", "nested too deeply, or too many elements")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(reason: str, detail: str) -> Callable[..., None]:
        def refused(*_: object) -> None:
            raise BadXml(reason, detail)

        return refused

    reader = expat.ParserCreate(encoding="utf-8")
    reader.StartElementHandler = start
    reader.EndElementHandler = end
    reader.StartDoctypeDeclHandler = refuse("dtd", "the document declares a type")
    reader.EntityDeclHandler = refuse("dtd", "the document declares an entity")
    # A comment splits a text in two for some readers, and is not signed (CVE-2017-11427).
    reader.CommentHandler = refuse("comment", "the document holds a comment")
    reader.ProcessingInstructionHandler = refuse("instruction", "a processing instruction")
    try:
        reader.Parse(data, True)
    except expat.ExpatError as error:
        raise BadXml("malformed", f"line {error.lineno}") from None


def _check_ids(root: etree._Element) -> None:
    """Each id names one element, however it is spelled: a reference must not have two ends."""
    found: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            plain = etree.QName(name).localname.lower() == "id"
            if plain and etree.QName(name).namespace not in (None, XML_ID[1:-3]):
                raise BadXml("ids", "an id attribute of another namespace")
            if plain:
                if value in found:
                    raise BadXml("ids", "two elements have one id")
                found.add(str(value))


def children(element: etree._Element, tag: str) -> list[etree._Element]:
    return [child for child in element if child.tag == tag]


def only(element: etree._Element, tag: str, reason: str) -> etree._Element:
    """The one child of that name. Raises BadXml where there is none, or two."""
    found = children(element, tag)
    if len(found) != 1:
        raise BadXml(reason, f"{len(found)} elements {etree.QName(tag).localname}, not one")
    return found[0]


def text_of(element: etree._Element) -> str:
    """An element's text, which must be all that it holds. Raises BadXml."""
    if len(element):
        raise BadXml("text", f"{etree.QName(element).localname} holds more than text")
    return (element.text or "").strip()


def attribute(element: etree._Element, name: str) -> str:
    return str(element.get(name) or "")


def all_of(root: etree._Element, tag: str) -> Iterator[etree._Element]:
    """Every element of that name, at any depth, the root included."""
    yield from root.iter(tag)


def time_of(text: str, reason: str = "times") -> float:
    """An xs:dateTime in UTC (SAML core 1.3.3) as seconds since the epoch. Raises BadXml."""
    try:
        if not text.endswith("Z"):
            raise ValueError("not in UTC")
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise BadXml(reason, "a time is malformed") from None


def instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
