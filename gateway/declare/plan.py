# SPDX-License-Identifier: GPL-3.0-or-later
"""From an order and what is declared to the changes that it means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.documents import (
    IN_VAULT,
    canonical,
    secret_complaint,
    secret_keys,
    without_secrets,
)
from gateway.config.reading import Wrong, nearest
from gateway.config.values import ObjectName
from gateway.declare.orders import ALL_KINDS, Action, Order, Rejected, Wanted
from gateway.store.objects import StoredObject

Key = tuple[str, str]
MANAGERS = re.compile(r"[a-z][a-z0-9_-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,62})?")
RESERVED = ("file", "embedded")


@dataclass(frozen=True, slots=True)
class Step:
    """One object's way from `before` to `after`; both None where it is nothing at all."""

    action: Action
    kind: str
    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    documents: dict[Key, Mapping[str, Any]]
    """Every document of the store, as it would be."""

    @property
    def changing(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action != "none")


def planned(
    order: Order,
    stored: Mapping[Key, StoredObject],
    documents: Mapping[Key, Mapping[str, Any]],
    fixed: Iterable[Key],
) -> Plan:
    """What an order does to `stored`, whose documents are `documents`; `fixed`: what stands in
    files. Raises Rejected: 404, 409, 412 or 422."""
    in_files, steps = set(fixed), []
    after = dict(documents)
    for wanted in _with_pruned(order, stored):
        key = wanted.kind, wanted.name
        if key in in_files:
            raise Rejected(
                409, f"{wanted.kind} {wanted.name} stands in a file: change it there and reload"
            )
        _check_match(wanted, stored.get(key))
        _check_manager(order, wanted, stored.get(key))
        step = _step(wanted, stored.get(key), documents.get(key), order.managed_by)
        steps.append(step)
        if step.after is None:
            after.pop(key, None)
        else:
            after[key] = step.after
    return Plan(tuple(steps), after)


def checked_manager(text: str) -> str:
    """A `managed_by` that callers may give. Raises Rejected."""
    if not MANAGERS.fullmatch(text) or text.partition(":")[0] in RESERVED:
        raise Rejected(
            400, "managed_by must be like ansible, terraform:WORKSPACE or apply:SET, and not file"
        )
    return text


def wanted_of(document: Any, title: str, kind: str = "", name: str = "") -> tuple[str, str, Any]:
    """The kind, the name and the document, its kind in front. Raises Rejected.

    `kind` and `name` are what the caller said besides; a document need not repeat them.
    """
    if not isinstance(document, Mapping) or not document:
        raise Rejected(422, f"{title} must be a JSON object, with its kind and name")
    kind = kind or _kind_of(document, title)
    given = document.get(kind, name)
    try:
        named = ObjectName.parse(given) if isinstance(given, str) else None
    except Wrong as error:
        raise _wrong(f"{title}: {error}", f"/{kind}") from None
    if named is None or (name and named != name):
        told = f", {name!r}" if name else ""
        raise _wrong(f"{title}: {kind} must be its name{told}", f"/{kind}")
    rest = {key: value for key, value in document.items() if key != kind and value is not None}
    return kind, str(named), {kind: str(named), **rest}


def _wrong(detail: str, pointer: str) -> Rejected:
    return Rejected(422, detail, [{"pointer": pointer, "detail": detail}])


def _kind_of(document: Mapping[str, Any], title: str) -> str:
    """JSON has no first member: the kind is the one that names a kind and is a text."""
    first = next(iter(document))
    if first in ALL_KINDS:
        return str(first)
    kinds = [key for key in document if key in ALL_KINDS]
    if len(kinds) == 1:
        return kinds[0]
    detail = f"{title}: which kind of object? {nearest(str(first), ALL_KINDS)}"
    raise _wrong(detail, "")


def _with_pruned(order: Order, stored: Mapping[Key, StoredObject]) -> list[Wanted]:
    named = {(wanted.kind, wanted.name) for wanted in order.wanted}
    if len(named) < len(order.wanted):
        raise Rejected(422, "an object is declared twice in this set")
    if not order.prune:
        return list(order.wanted)
    gone = [
        Wanted(one.kind, one.name, None)
        for key, one in stored.items()
        if one.managed_by == order.managed_by and key not in named
    ]
    return [*order.wanted, *gone]


def _check_match(wanted: Wanted, there: StoredObject | None) -> None:
    if wanted.absent and there is not None:
        raise Rejected(412, f"{wanted.kind} {wanted.name} is there already")
    if wanted.match is not None and (
        there is None or ("*" not in wanted.match and there.etag not in wanted.match)
    ):
        raise Rejected(412, f"{wanted.kind} {wanted.name} is not as If-Match says: read it anew")
    if wanted.document is None and there is None:
        raise Rejected(404, f"there is no {wanted.kind} {wanted.name}")


def _check_manager(order: Order, wanted: Wanted, there: StoredObject | None) -> None:
    if there is not None and there.managed_by != order.managed_by and not order.adopt:
        raise Rejected(
            409,
            f"{wanted.kind} {wanted.name} is managed by {there.managed_by}, not by "
            f"{order.managed_by}: change it there, or adopt it",
        )


def _step(
    wanted: Wanted, there: StoredObject | None, before: Mapping[str, Any] | None, manager: str
) -> Step:
    kind, name = wanted.kind, wanted.name
    if wanted.document is None:
        return Step("delete", kind, name, before, None)
    after, secret = _with_secret(kind, name, wanted.document, before)
    same = (
        there is not None
        and there.managed_by == manager
        and secret is None
        and canonical(after) == there.document
    )
    action: Action = "none" if same else "update" if there is not None else "create"
    return Step(action, kind, name, before, after, secret)


def in_vault(document: Mapping[str, Any] | None, key: str = "secret") -> bool:
    return document is not None and document.get(key) == IN_VAULT


def _with_secret(
    kind: str, name: str, document: Mapping[str, Any], before: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], str | None]:
    """The document as it may be kept, and a secret that it gave by value.

    What the vault holds stays where a document says nothing of it: nobody can repeat what cannot
    be read.
    """
    after, taken = without_secrets(kind, document)
    for key in secret_keys(kind):
        if key in taken:
            if complaint := secret_complaint(taken[key]):
                raise _wrong(f"{kind} {name}.{key}: {complaint}", f"/{key}")
            if kind != "credential":
                raise _wrong(f'{kind} {name}.{key}: give it as {{"from": "file:PATH"}}', f"/{key}")
        elif key not in after and in_vault(before, key):
            after[key] = IN_VAULT
        elif kind != "credential" and in_vault(after, key):
            raise _wrong(f"{kind} {name}.{key}: the vault is for credentials", f"/{key}")
    return after, next(iter(taken.values()), None)
