# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects from YAML files to typed values, checked as one set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from gateway.config.objects import KINDS, LATER, Objects, TargetObject
from gateway.config.reading import BAD, ConfigError, Mistake, Reader, key_of, nearest
from gateway.config.references import Written, check_doubles, check_references
from gateway.protocols import ProtocolDefinition, discover


def load_objects(paths: Iterable[Path]) -> tuple[Objects, tuple[Mistake, ...]]:
    """Read files, and the *.yaml of folders. Raises ConfigError with every mistake in them."""
    readers = [Reader(path) for path in yaml_files(paths)]
    written = [one for reader in readers for one in _read(reader)]
    check_doubles(written)
    check_references(written, KINDS)
    mistakes = [mistake for reader in readers for mistake in reader.mistakes]
    if mistakes:
        raise ConfigError(mistakes)
    return _gathered(written), tuple(note for reader in readers for note in reader.warnings)


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
    protocols = discover()
    _, node = pairs.get("protocol", (None, None))
    if node is None:
        return None
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


def _gathered(written: list[Written]) -> Objects:
    by_kind: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for one in written:
        value = one.value
        if one.kind == "target":
            value = one.value.model(one.options)
        elif one.kind == "credential":
            value = one.value.model()
        by_kind[one.kind][one.name] = value
    return Objects(**{f"{kind}s": found for kind, found in by_kind.items()})
