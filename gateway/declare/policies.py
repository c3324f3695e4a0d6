# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies as objects: a JSON document as the text that is hashed, decided by and recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from gateway.config.documents import DocumentReader, escaped
from gateway.policy.documents import Document, PolicyError, PolicySet, parse
from gateway.proxy.analyst import Analyst
from gateway.proxy.explaining import own_tests

_TO_ESCAPE = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")
"""YAML takes some of these for line breaks, others not at all."""
_LINE = re.compile(r":(\d+): (.*)", re.DOTALL)


def policy_text(document: Mapping[str, Any]) -> str:
    """A document as JSON that is YAML too, a value a line; the same for equal documents."""
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def parsed(name: str, document: Mapping[str, Any]) -> Document:
    """The policy of a document. Raises PolicyMistakes."""
    title = f"policy {name}"
    reader = DocumentReader("policy", name, document, ())
    reader.documents()
    if reader.mistakes:
        raise PolicyMistakes(
            [_finding(title, one.place.pointer, one.message) for one in reader.mistakes]
        )
    text = policy_text(document)
    try:
        return parse(text, title)
    except PolicyError as error:
        pointers = dict(_pointers(yaml.compose(text, yaml.SafeLoader), ""))
        raise PolicyMistakes(
            [_placed(title, line, pointers) for line in str(error).splitlines()]
        ) from None


class PolicyMistakes(Exception):
    """A document that is no policy; its findings as the API shows them."""

    def __init__(self, findings: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(str(one["detail"]) for one in findings))
        self.findings = findings


def _finding(title: str, pointer: str, detail: str) -> dict[str, Any]:
    return {"object": title, "pointer": pointer, "detail": detail}


def _placed(title: str, line: str, pointers: Mapping[int, str]) -> dict[str, Any]:
    found = _LINE.fullmatch(line.removeprefix(title))
    if found is None:
        return _finding(title, "", line)
    return _finding(title, pointers.get(int(found[1]), ""), found[2])


def _pointers(node: yaml.Node | None, at: str) -> Iterator[tuple[int, str]]:
    """The pointer to what begins on each line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            pointer = f"{at}/{escaped(str(key.value))}"
            yield key.start_mark.line + 1, pointer
            yield from _pointers(value, pointer)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield item.start_mark.line + 1, f"{at}/{index}"
            yield from _pointers(item, f"{at}/{index}")


async def failing_tests(document: Document) -> list[dict[str, Any]]:
    """Those of a policy's own tests that fail, as findings."""
    if not document.tests:
        return []
    pointers = dict(_pointers(yaml.compose(document.text, yaml.SafeLoader), ""))
    analyst = Analyst(children=1)
    try:
        results = [one async for one in own_tests(PolicySet((document,)), analyst)]
    finally:
        await analyst.close()
    return [
        _finding(
            f"policy {document.name}",
            pointers.get(one["line"], ""),
            f"the test expects {_told(one['expected'])}, but it is {_told(one['got'])}",
        )
        for one in results
        if not one["ok"]
    ]


def _told(judged: Mapping[str, Any]) -> str:
    return f"{judged['verdict']} by {judged['rule']}" if judged["rule"] else str(judged["verdict"])
