# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole set: what stands in files and what the store declares, checked together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import ConfigError, Mistake, Objects
from gateway.config.declaring import declared_with
from gateway.config.documents import DocumentReader, canonical, plain, shown
from gateway.config.objects import KINDS, plural
from gateway.declare.orders import Rejected, Shown
from gateway.declare.policies import PolicyMistakes, parsed
from gateway.policy.documents import Document, PolicySet
from gateway.store.objects import StoredObject

Documents = Mapping[tuple[str, str], Mapping[str, Any]]
"""Documents by kind and name."""


@dataclass(frozen=True, slots=True)
class Base:
    """What is there whatever the store says: the objects and policies of files."""

    objects: Objects
    policies: PolicySet

    def names(self) -> Iterator[tuple[str, str]]:
        for kind in KINDS:
            yield from ((kind, name) for name in getattr(self.objects, plural(kind)))
        yield from (("policy", document.name) for document in self.policies.documents)

    def shown(self) -> Iterator[Shown]:
        """The objects of files, as the API shows them."""
        written = {(one.kind, one.name): one for one in self.objects.declared}
        texts = {document.name: document for document in self.policies.documents}
        for kind, name in self.names():
            one = written.get((kind, name))
            if one is not None:
                document, by = shown(kind, plain(one.node)), "file"
            elif kind == "policy":
                document, by = _policy_shown(texts[name]), "file"
            else:
                document, by = {kind: name}, "embedded"
            digest = hashlib.sha256(canonical(document).encode()).hexdigest()[:16]
            yield Shown(kind, name, document, 0, f'"0-{digest}"', by)


def _policy_shown(document: Document) -> dict[str, Any]:
    return {"policy": document.name, "text": document.text, "version": document.version}


@dataclass(frozen=True, slots=True)
class Whole:
    """Objects and policies that can be in force together."""

    objects: Objects
    policies: PolicySet


def documents_of(stored: Iterable[StoredObject]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The documents, each with its kind in front, where people look for it."""
    return {
        (one.kind, one.name): {one.kind: one.name, **json.loads(one.document)} for one in stored
    }


def whole(base: Base, documents: Documents, closed: Sequence[Path]) -> Whole:
    """The whole set. Raises Rejected with every mistake. Reads files, so not on the loop."""
    findings: list[dict[str, Any]] = []
    policies = list(base.policies.documents)
    for (kind, name), document in documents.items():
        if kind == "policy":
            try:
                policies.append(parsed(name, document))
            except PolicyMistakes as error:
                findings += error.findings
    readers = [
        DocumentReader(kind, name, document, closed)
        for (kind, name), document in documents.items()
        if kind != "policy"
    ]
    try:
        objects = declared_with(base.objects, readers)
    except ConfigError as error:
        findings += [finding(mistake) for mistake in error.mistakes]
    if findings:
        raise Rejected(422, "the objects would be wrong: nothing was changed", findings)
    return Whole(objects, PolicySet(tuple(policies)))


def finding(mistake: Mistake) -> dict[str, Any]:
    """A mistake as the API shows it."""
    place = mistake.place
    where: dict[str, Any] = (
        {"file": place.file, "line": place.line}
        if place.line
        else {"object": place.file, "pointer": place.pointer}
    )
    return {**where, "detail": mistake.message, "cure": mistake.cure}


def in_the_way(
    gone: Sequence[str], after: Rejected, before: Sequence[Mapping[str, Any]]
) -> Rejected:
    """Why objects, named as "KIND NAME", cannot go: `after` has the mistakes of what would be left.

    `before`: the mistakes that there are already, which the deletion does not cause.
    """
    caused = [one for one in after.findings if one not in before]
    told = ", ".join(dict.fromkeys(_place(one) for one in caused or after.findings))
    detail = (
        f"{_listed(gone)} still needed by {told}"
        if caused
        else f"{told} is wrong already, whether or not {_listed(gone)} deleted"
    )
    findings = [
        {
            **one,
            "cure": f"{'change' if one in caused else 'correct'} or delete {_place(one)} first,"
            " or all of them in one apply",
        }
        for one in after.findings
    ]
    return Rejected(409, f"{detail}: nothing was changed", findings)


def _listed(gone: Sequence[str]) -> str:
    return f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'}"


def _place(one: Mapping[str, Any]) -> str:
    return str(one.get("object") or f"{one.get('file')}:{one.get('line')}")
