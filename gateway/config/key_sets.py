# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys in objects: an issuer's key set, and an agent's own keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from gateway.config.reading import BAD, Reader
from gateway.config.values import PublicKey
from gateway.identity.assertions import agent_keys
from gateway.identity.jwks import FetchFailed, key_set
from gateway.outgoing import Closed, checked_url

_WAYS = ("url", "from", "keys")


@dataclass(frozen=True, slots=True)
class JwksObject:
    """`jwks`: where an issuer's keys are (`url`), the keys in a file (`from`), or here (`keys`)."""

    url: str = ""
    keys: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_node(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        pairs = reader.pairs(node, at)
        ways = [key for key in pairs if key in _WAYS]
        if len(pairs) != 1 or not ways:
            cure = 'write {url: https://...}, {from: "file:PATH"} or {keys: [...]}'
            return reader.wrong(node, f"{at}: needs one source of keys", cure)
        _, value = pairs[ways[0]]
        if ways[0] == "url":
            return cls._at(reader, value, f"{at}.url")
        if ways[0] == "keys":
            found = reader.value(value, tuple[Mapping[str, str], ...], f"{at}.keys")
            return BAD if found is BAD else cls._checked(reader, value, {"keys": list(found)}, at)
        text = PublicKey.from_node(reader, node, at)
        if text is BAD:
            return BAD
        try:
            document = json.loads(text.value)
        except (ValueError, RecursionError):
            document = None
        return cls._checked(reader, value, document, at)

    @classmethod
    def _at(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        url = reader.value(node, str, at)
        if url is BAD:
            return BAD
        try:
            return cls(url=checked_url(url))
        except ValueError as error:
            cure = "write https://HOST/PATH (http:// only on loopback)"
            problem = str(error) if isinstance(error, Closed) else "keys are not safe there"
            return reader.wrong(node, f"{at}: {problem}", cure)

    @classmethod
    def _checked(cls, reader: Reader, node: yaml.Node, document: Any, at: str) -> Any:
        cure = "write what the issuer publishes as its jwks_uri, or a trust domain's bundle"
        if not isinstance(document, dict):
            return reader.wrong(node, f"{at}: is no JWK set", cure)
        for use in ("sig", "jwt-svid"):
            try:
                return cls(keys=key_set(document, use))
            except FetchFailed:
                continue
        return reader.wrong(node, f"{at}: holds no public key that signs tokens", cure)


@dataclass(frozen=True, slots=True)
class AgentKeys:
    """`key` of an agent: public keys, PEM or JWK, from a file or as written."""

    keys: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_node(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        text = PublicKey.from_node(reader, node, at)
        if text is BAD:
            return BAD
        try:
            return cls(agent_keys(text.value))
        except ValueError as error:
            cure = "write the public half: openssl pkey -in agent.key -pubout"
            return reader.wrong(node, f"{at}: {error}", cure)
