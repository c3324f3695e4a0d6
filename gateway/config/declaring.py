# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects from YAML files and JSON documents to typed values, checked as one set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from gateway.config.documents import DocumentReader
from gateway.config.objects import KINDS, LATER, Objects, TargetObject, plural
from gateway.config.reading import BAD, ConfigError, Mistake, Reader, key_of, nearest
from gateway.config.references import Written, check_doubles, check_references
from gateway.protocols import ProtocolDefinition, discover

_protocols = lru_cache(maxsize=1)(discover)
"""Looking for them lists folders."""


def load_objects(paths: Iterable[Path]) -> tuple[Objects, tuple[Mistake, ...]]:
    """Read files, and the *.yaml of folders. Raises ConfigError with every mistake in them."""
    readers = [Reader(path) for path in yaml_files(paths)]
    written = [one for reader in readers for one in _read(reader)]
    objects = _checked(Objects(), written, readers)
    return objects, tuple(note for reader in readers for note in reader.warnings)


def declared_with(given: Objects, documents: Sequence[DocumentReader]) -> Objects:
    """What is given, and what the documents declare, as one set. Raises ConfigError.

    What stands in files is checked anew: a document may have taken its name or its address.
    """
    files = list(dict.fromkeys(one.reader for one in given.declared))
    for reader in files:
        reader.mistakes.clear()
    written = [one for reader in documents for one in _read(reader)]
    return _checked(given, written, [*files, *documents])


def _checked(given: Objects, written: list[Written], readers: Sequence[Reader]) -> Objects:
    everything = [*given.declared, *written]
    in_files = {(one.kind, one.name) for one in given.declared}
    besides = {
        kind: [name for name in getattr(given, plural(kind)) if (kind, name) not in in_files]
        for kind in KINDS
    }
    for one in written:
        if one.name in besides[one.kind]:
            message = f"{one.kind} {one.name} is one that the gateway was started with"
            one.reader.wrong(one.node, message, "choose another name")
    check_doubles(everything)
    check_references(everything, besides)
    mistakes = [mistake for reader in readers for mistake in reader.mistakes]
    if mistakes:
        raise ConfigError(mistakes)
    return _gathered(given, written)


def yaml_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and those directly in the folders named, in order of their names."""
    return [
        file
        for path in paths
        for file in (
            sorted((*path.glob("*.yaml"), *path.glob("*.yml"))) if path.is_dir() else [path]
        )
    ]


def _read(reader: Reader) -> list[Written]:
    objects = [_object(reader, node) for node in reader.documents() if node.tag[-5:] != ":null"]
    return [one for one in objects if one is not None]


def _object(reader: Reader, node: yaml.Node) -> Written | None:
    pairs = reader.pairs(node, "object")
    if not pairs:
        return None
    kind, (key_node, name_node) = next(iter(pairs.items()))
    if kind in LATER:
        reader.wrong(key_node, f"{kind}: not in this version", "remove the object")
        return None
    if kind not in KINDS:
        cure = nearest(kind, KINDS) + "; the first key is the object's kind"
        reader.wrong(key_node, f"{kind!r} is no kind of object", cure)
        return None
    at = f"{kind} {getattr(name_node, 'value', '')}"
    options = _options(reader, pairs, at) if kind == "target" else None
    value = reader.fields(pairs, KINDS[kind], at)
    if value is BAD or options is BAD:
        return None
    return Written(kind, getattr(value, kind), value, options, reader, node)


def _options(reader: Reader, pairs: dict[str, tuple[yaml.Node, yaml.Node]], at: str) -> Any:
    """Take a protocol's own options out of a target's pairs; the protocol's types check them."""
    protocols = _protocols()
    _, node = pairs.get("protocol", (None, None))
    if not isinstance(node, yaml.ScalarNode):
        return None  # the target's own field says so
    definition = protocols.get(str(node.value))
    if definition is None:
        return reader.wrong(
            node,
            f"{at}.protocol: {node.value!r} is no protocol here",
            nearest(str(node.value), protocols),
        )
    fixed = {key_of(item) for item in dataclasses.fields(TargetObject)}
    own = _own_keys(definition) - fixed
    taken = {key: pairs.pop(key) for key in list(pairs) if key in own}
    return reader.fields(taken, definition.options, at)


def _own_keys(definition: ProtocolDefinition) -> set[str]:
    if not dataclasses.is_dataclass(definition.options):
        return set()
    return {key_of(item) for item in dataclasses.fields(definition.options)}


def _gathered(given: Objects, written: list[Written]) -> Objects:
    by_kind: dict[str, dict[str, Any]] = {
        plural(kind): dict(getattr(given, plural(kind))) for kind in KINDS
    }
    for one in written:
        value = one.value
        if one.kind == "target":
            value = one.value.model(one.options)
        elif one.kind == "credential":
            value = one.value.model()
        by_kind[plural(one.kind)][one.name] = value
    files = tuple(one for one in written if not isinstance(one.reader, DocumentReader))
    return Objects(**by_kind, declared=given.declared + files)
