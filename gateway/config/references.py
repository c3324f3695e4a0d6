# SPDX-License-Identifier: GPL-3.0-or-later
"""What objects must be to each other: named once, and naming only what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.config.providers import check_login
from gateway.config.reading import Reader, nearest
from gateway.config.rotating import rotation_complaints
from gateway.identity.jwks import KEY_TYPES
from gateway.identity.spiffe import checked_trust_domain
from gateway.outgoing import Closed, checked_url
from gateway.record.recipients import BadKey, Recipient


@dataclass(frozen=True, slots=True)
class Written:
    """One object as it stands in a file."""

    kind: str
    name: str
    value: Any
    options: object
    reader: Reader
    node: yaml.Node

    def at(self, key: str) -> yaml.Node:
        """The node of one of its keys, for a message; the object itself where there is none."""
        for name, value in getattr(self.node, "value", ()):
            if getattr(name, "value", None) == key:
                return value  # type: ignore[no-any-return]
        return self.node


def check_doubles(written: list[Written]) -> None:
    """Names, listeners, issuers' URLs and identities: each is one object's alone."""
    first: dict[tuple[str, ...], Written] = {}
    for one in written:
        for key, what, node in _claimed(one):
            there = first.setdefault(key, one)
            if there is not one:
                place = there.reader.place(there.node)
                cure = f"first at {place}, {there.kind} {there.name}"
                one.reader.wrong(node, f"{one.kind} {one.name} {what}", cure)


def _claimed(one: Written) -> Iterator[tuple[tuple[str, ...], str, yaml.Node]]:
    """What an object has for itself: a key, what to say if another has it, and where."""
    yield (one.kind, one.name), "is declared twice", one.node
    if one.kind == "retention":
        yield ("retention",), "is a second one; one period holds for all sessions", one.node
    if one.kind in ("agent", "person"):
        yield ("name", one.name), "has the name of another agent or person", one.node
    if one.kind == "issuer":
        yield ("url", one.value.url), "has the url of another issuer", one.at("url")
    if one.kind == "target" and one.value.listen is not None and one.value.listen.port:
        listen = one.value.listen
        yield (
            ("listen", str(listen)),
            f"listens where another target does, {listen}",
            one.at("listen"),
        )
    for issuer, subject in _identities(one):
        yield ("identity", issuer, subject), "has the identity of another object", one.node


def _identities(one: Written) -> list[tuple[str, str]]:
    if one.kind == "agent":
        known = (one.value.issuer, one.value.subject)
        return [known] if None not in known else []
    if one.kind == "person":
        # As a set: a person's own identity written twice is no quarrel.
        return sorted({(each.issuer, each.subject) for each in one.value.identities})
    return []


def check_references(written: list[Written], given: Mapping[str, Iterable[str]]) -> None:
    """What objects name must be there, and what they say must be possible.

    `given`: the names by kind of what is there besides.
    """
    names = {kind: list(there) for kind, there in given.items()}
    for one in written:
        names[one.kind].append(one.name)
    for one in written:
        if one.kind in _CHECKS:
            _CHECKS[one.kind](one)
        if one.kind == "target":
            _check_names(one, "credentials", one.value.credentials, "credential", names)
        if one.kind == "credential" and one.value.rotation is not None:
            _check_rotation(one, names)
        if one.kind == "legal_hold":
            _check_hold(one, names["target"])
        if one.kind == "access":
            _check_names(one, "issuers", one.value.issuers, "issuer", names)
        for issuer, _ in _identities(one):
            _check_names(one, "issuer", [issuer], "issuer", names)


def _check_names(
    one: Written, key: str, named: Iterable[str], kind: str, names: Mapping[str, list[str]]
) -> None:
    for name in named:
        if name not in names[kind]:
            cure = nearest(name, names[kind])
            one.reader.wrong(one.at(key), f"{one.kind} {one.name}: no {kind} {name!r}", cure)


def _check_target(one: Written) -> None:
    at, target = f"target {one.name}", one.value
    for key in ("credentials", "databases"):
        if not getattr(target, key):
            one.reader.wrong(one.at(key), f"{at}.{key}: the list is empty", "name at least one")
    if target.plain and not (target.listen and target.listen.loopback):
        cure = "add listen: 127.0.0.1:PORT or remove plain"
        one.reader.wrong(one.at("plain"), f"{at}: plain links need a loopback listener", cure)
    if target.tls.mode == "disable" and target.tls.ca_path:
        one.reader.wrong(one.at("tls"), f"{at}.tls: ca_path without TLS", "remove one of them")
    if (target.tls.cert_path is None) != (target.tls.key_path is None):
        message = f"{at}.tls: cert_path and key_path belong together"
        one.reader.wrong(one.at("tls"), message, "give both or neither")
    for name in ("ca_path", "cert_path", "key_path"):
        _check_file(one, "tls", getattr(target.tls, name))


def _check_rotation(one: Written, names: Mapping[str, list[str]]) -> None:
    for message, cure in rotation_complaints(one.value, names):
        one.reader.wrong(one.at("rotation"), f"credential {one.name}.rotation{message}", cure)


def _check_file(one: Written, key: str, path: Path | None) -> None:
    if path is not None and not path.is_file():
        one.reader.wrong(
            one.at(key), f"{one.kind} {one.name}.{key}: {path} is not a file", "name a PEM file"
        )


def _check_credential(one: Written) -> None:
    if one.value.secret is None and one.value.login not in ("trust", "certificate"):
        cure = 'add secret: {from: "file:PATH"}'
        one.reader.wrong(one.node, f"credential {one.name} has no secret", cure)


def _check_issuer(one: Written) -> None:
    at, issuer = f"issuer {one.name}", one.value
    check_login(one)
    _check_file(one, "ca_path", issuer.ca_path)
    if issuer.kind == "saml":
        return
    _check_issuer_url(one, at)
    for algorithm in issuer.algorithms:
        if algorithm not in KEY_TYPES:
            message = f"{at}.algorithms: {algorithm!r} is not accepted"
            one.reader.wrong(one.at("algorithms"), message, nearest(algorithm, KEY_TYPES))
    for key in ("audience", "algorithms"):
        if not getattr(issuer, key):
            one.reader.wrong(one.at(key), f"{at}.{key} is empty", "name at least one")


def _check_issuer_url(one: Written, at: str) -> None:
    issuer, spiffe = one.value, one.value.kind == "spiffe"
    try:
        (checked_trust_domain if spiffe else checked_url)(issuer.url)
    except Closed as error:
        cure = "write https://HOST (http:// only on loopback)"
        one.reader.wrong(one.at("url"), f"{at}.url: {error}", cure)
    except ValueError:
        cure = "write spiffe://NAME" if spiffe else "write https://HOST (http:// only on loopback)"
        problem = "is no trust domain" if spiffe else "tokens are not safe there"
        one.reader.wrong(one.at("url"), f"{at}.url: {problem}", cure)
    if spiffe and issuer.jwks is None:
        cure = 'add jwks: {from: "file:bundle.json"} or the URL of the bundle endpoint'
        one.reader.wrong(one.node, f"{at}: a trust domain needs the keys of its bundle", cure)
    if spiffe and issuer.subjects == "person":
        cure = "add subjects: workload"
        one.reader.wrong(one.node, f"{at}: a trust domain names workloads", cure)


def _check_agent(one: Written) -> None:
    agent = one.value
    if (agent.issuer is None) != (agent.subject is None):
        message = f"agent {one.name}: issuer and subject belong together"
        one.reader.wrong(one.node, message, "give both")
    elif agent.issuer is None and agent.key is None:
        cure = 'add issuer and subject, or key: {from: "file:agent.pub"}'
        one.reader.wrong(one.node, f"agent {one.name}: nothing proves it", cure)


def _check_recipient(one: Written) -> None:
    try:
        Recipient.parse(one.value.key.value)
    except BadKey as error:
        message, _, cure = str(error).partition(": ")
        one.reader.wrong(one.at("key"), f"recipient {one.name}.key: {message}", cure)


def _check_hold(one: Written, targets: list[str]) -> None:
    for name in one.value.sessions.targets:
        if name not in targets:
            # A target that was taken out may have sessions that must be kept.
            message = f"legal_hold {one.name}: no target {name!r} is declared"
            one.reader.warn(one.at("sessions"), message, nearest(name, targets))


def _check_person(one: Written) -> None:
    if not one.value.identities:
        message = f"person {one.name}.identities: the list is empty"
        one.reader.wrong(one.at("identities"), message, "name at least one")


def _check_access(one: Written) -> None:
    at, access = f"access {one.name}", one.value
    for key in ("groups", "may", "targets"):
        if not getattr(access, key):
            one.reader.wrong(one.at(key), f"{at}.{key}: the list is empty", "name at least one")
    whole = [right for right in ("audit", "admin") if right in access.may]
    if whole and access.targets != ("*",):
        cure = "remove targets, or give it by an access object of its own"
        one.reader.wrong(one.at("targets"), f"{at}: {whole[0]} is not bounded by targets", cure)


_CHECKS: Mapping[str, Callable[[Written], None]] = {
    "target": _check_target,
    "credential": _check_credential,
    "issuer": _check_issuer,
    "agent": _check_agent,
    "person": _check_person,
    "recipient": _check_recipient,
    "access": _check_access,
}
