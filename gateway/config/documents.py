# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects as JSON documents: read by the same types as files, mistakes named by JSON pointers."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml

from gateway.config.objects import KINDS
from gateway.config.reading import TAG, Mistake, Place, Reader, hints_of, key_of, scalar
from gateway.config.values import SECRET_CAP, Secret

IN_VAULT = {"from": "vault"}
"""In place of a secret that the vault has."""
DEPTH_CAP = 32
UNKEEPABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
"""What databases and YAML cannot hold in a text."""

Document = Mapping[str, Any]


def canonical(document: Document) -> str:
    """The one text of a document: its members sorted, in ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


class DocumentReader(Reader):
    """Reads one object from what JSON gives.

    Files are on the gateway's machine, so that their paths must be absolute, and they may not lie
    in the folders `closed` (the gateway's own keys do).
    """

    def __init__(self, kind: str, name: str, document: Document, closed: Sequence[Path]) -> None:
        super().__init__(Path(f"{kind} {name}"), "")
        self._document = {kind: name, **document}  # the kind must be in front
        self._closed = closed
        self._pointers: dict[int, tuple[str, yaml.Node]] = {}

    def documents(self) -> list[yaml.Node]:
        return [self._node(self._document, "", 0)]

    def place(self, node: yaml.Node | None) -> Place:
        pointer, _ = self._pointers.get(id(node), ("", None))
        return Place(str(self.path), 0, 0, pointer)

    def located(self, node: yaml.Node, text: str, at: str) -> Any:
        path = Path(text)
        if not path.is_absolute():
            cure = "write the absolute path of a file on the gateway's machine"
            return self.wrong(node, f"{at}: the path is relative", cure)
        real = path.resolve()
        if any(real.is_relative_to(folder) for folder in self._closed):
            cure = "keep what objects name in a folder of its own"
            return self.wrong(node, f"{at}: the gateway's own files are not for objects", cure)
        if real.exists() and not real.is_file():
            # A pipe would be waited for, a device might have no end.
            return self.wrong(node, f"{at}: {path} is no regular file", "name a file")
        return path

    def _node(self, value: Any, pointer: str, depth: int) -> yaml.Node:
        if depth > DEPTH_CAP:
            self.mistakes.append(
                Mistake(
                    Place(str(self.path), 0, 0, pointer), "nested too deeply", "write it flatter"
                )
            )
            return self._kept(yaml.ScalarNode(TAG + "null", ""), pointer)
        if isinstance(value, Mapping):
            return self._kept(self._mapping_node(value, pointer, depth), pointer)
        if isinstance(value, list | tuple):
            items = [self._node(item, f"{pointer}/{i}", depth + 1) for i, item in enumerate(value)]
            return self._kept(yaml.SequenceNode(TAG + "seq", items), pointer)
        node = self._kept(_scalar(value), pointer)
        if isinstance(value, str) and UNKEEPABLE.search(value):
            self.wrong(node, "a text with a character that cannot be kept", "remove it")
        return node

    def _mapping_node(self, value: Mapping[str, Any], pointer: str, depth: int) -> yaml.Node:
        pairs = []
        for key, item in value.items():
            at = f"{pointer}/{escaped(key)}"
            key_node = self._kept(yaml.ScalarNode(TAG + "str", key), at)
            if UNKEEPABLE.search(key):
                self.wrong(key_node, "a key with a character that cannot be kept", "remove it")
            pairs.append((key_node, self._node(item, at, depth + 1)))
        return yaml.MappingNode(TAG + "map", pairs)

    def _kept(self, node: yaml.Node, pointer: str) -> yaml.Node:
        self._pointers[id(node)] = pointer, node
        return node


def _scalar(value: object) -> yaml.Node:
    if value is None:
        return yaml.ScalarNode(TAG + "null", "")
    if isinstance(value, bool):
        return yaml.ScalarNode(TAG + "bool", str(value).lower())
    kinds = {str: "str", int: "int", float: "float"}
    return yaml.ScalarNode(TAG + kinds[type(value)], str(value))


def escaped(key: str) -> str:
    """A key as a JSON pointer has it (RFC 6901 3)."""
    return key.replace("~", "~0").replace("/", "~1")


def plain(node: yaml.Node) -> Any:
    """A node that was read without mistakes, as JSON has it."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in node.value]
    return scalar(node)


# --- secrets -------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def secret_keys(kind: str, of: type[Secret] = Secret) -> frozenset[str]:
    """The members of a kind's documents that hold a secret (or, as PublicKey, a public key)."""
    if kind not in KINDS:
        return frozenset()
    hints = hints_of(KINDS[kind])
    return frozenset(
        key_of(item)
        for item in dataclasses.fields(KINDS[kind])
        if of in (hints[item.name], *get_args(hints[item.name]))
    )


def without_secrets(kind: str, document: Document) -> tuple[dict[str, Any], dict[str, str]]:
    """A document without what may not be kept in it, and the secrets that it gave by value.

    In the place of each stands IN_VAULT. What is no secret at all is left to the reader.
    """
    kept, taken = dict(document), dict[str, str]()
    for key in secret_keys(kind) & document.keys():
        value = document[key]
        if isinstance(value, Mapping) and list(value) == ["value"]:
            value = value["value"]
        if isinstance(value, str):
            taken[key] = value
            kept[key] = IN_VAULT
    return kept, taken


def secret_complaint(secret: str) -> str:
    """What is wrong with a secret given by value; empty if nothing is."""
    if not secret.strip():
        return "the secret is empty"
    if UNKEEPABLE.search(secret):
        return "the secret has a character that cannot be kept"
    return "the secret is too long" if len(secret.encode()) > SECRET_CAP else ""


def shown(kind: str, document: Document) -> dict[str, Any]:
    """A document that anyone with the right to may read: where a secret comes from, and no more."""
    seen = dict(document)
    for key in secret_keys(kind) & document.keys():
        value = document[key]
        told = isinstance(value, Mapping) and "from" in value
        seen[key] = value if told else {"from": "value"}
    return seen
