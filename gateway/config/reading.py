# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML text to frozen dataclasses: the types are the schema, and every mistake keeps its place.

Scalars follow the YAML 1.2 core schema: `on`, `no` and `22:00` stay strings.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from yaml.reader import ReaderError

_CORE = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), "~nN\0"),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), "tTfF"),
    ("int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), "-+0123456789"),
    (
        "float",
        re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
        "-+.0123456789",
    ),
)
TAG = "tag:yaml.org,2002:"
_WORDS = {"map": "a mapping", "seq": "a list", "str": "text", "null": "nothing"} | {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}

NUMBER_CAP = 24
"""Digits."""
FILE_CAP = 4 << 20
"""Bytes; a gateway with ten thousand targets needs two MiB."""

T = TypeVar("T")
hints_of = lru_cache(maxsize=256)(get_type_hints)
"""The types of a dataclass' fields; working them out takes far longer than reading by them."""


class CoreLoader(yaml.SafeLoader):
    """PyYAML speaks YAML 1.1; only its implicit types differ from 1.2 core."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _name, _pattern, _first in _CORE:
    CoreLoader.add_implicit_resolver(
        TAG + _name, _pattern, ["" if letter == "\0" else letter for letter in _first]
    )


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file; line and column count from 1. In a document of the API both are 0, `file`
    is the object and `pointer` a JSON pointer (RFC 6901)."""

    file: str
    line: int
    column: int
    pointer: str = ""

    def __str__(self) -> str:
        if not self.line:
            return f"{self.file}#{self.pointer}"
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, and what cures it."""

    place: Place
    message: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f"; {self.cure}" if self.cure else "")


class ConfigError(Exception):
    """Settings or objects are wrong. `mistakes` holds every one that was found."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda one: one.place))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class Wrong(ValueError):
    """Raised by a type's own `parse`: the message, and the cure behind a `;`.

    `key`: which key of a dataclass is wrong, when it is the dataclass that raises.
    """

    def __init__(self, text: str, key: str = "") -> None:
        super().__init__(text)
        self.key = key


class _Bad:
    """The value of something that has been reported as a mistake already."""


BAD = _Bad()


def setting(doc: str, *, example: str = "", **given: Any) -> Any:
    """A dataclass field with a line of documentation, from which `init` writes its comments."""
    return field(metadata={"doc": doc, "example": example}, **given)


def nearest(word: str, known: Iterable[str]) -> str:
    """The cure for an unknown word: the nearest known one, else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names) or 'none'}"


def key_of(item: dataclasses.Field[Any]) -> str:
    """A field's name in YAML: `from_` is written `from`."""
    return item.name.rstrip("_")


class Reader:
    """Reads the documents of one file and gathers mistakes and warnings."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self.folder = path.parent
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []
        self._text = text

    def documents(self) -> list[yaml.Node]:
        """The file's documents as nodes; none when it cannot be read or parsed."""
        text = self._text if self._text is not None else self._read()
        if text is None:
            return []
        try:
            return [node for node in yaml.compose_all(text, CoreLoader) if node is not None]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(str(self.path), mark.line + 1, mark.column + 1) if mark else self._top()
            self._unreadable(f"not valid YAML: {error.problem}", _yaml_cure(str(error)), place)
        except ReaderError as error:
            lines = text[: error.position].split("\n")
            place = Place(str(self.path), len(lines), len(lines[-1]) + 1)
            self._unreadable("a character that YAML does not allow", "remove it", place)
        except (yaml.YAMLError, ValueError, RecursionError):
            self._unreadable("not valid YAML: nested too deeply", "write it flatter")
        return []

    def _read(self) -> str | None:
        try:
            with self.path.open("rb") as file:
                content = file.read(FILE_CAP + 1)
            if len(content) <= FILE_CAP:
                return content.decode("utf-8")
            self._unreadable(f"the file is over {FILE_CAP >> 20} MiB", "split it into several")
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            cure = "name a file that is there" if missing else "let this user read it"
            self._unreadable(f"cannot be read: {error.strerror}", cure)
        except UnicodeDecodeError as error:
            before = content[: error.start].split(b"\n")
            place = Place(str(self.path), len(before), len(before[-1]) + 1)
            self._unreadable("the file is not UTF-8", "save it as UTF-8", place)
        return None

    def _unreadable(self, message: str, cure: str, place: Place | None = None) -> None:
        self.mistakes.append(Mistake(place or self._top(), message, cure))

    def _top(self) -> Place:
        return Place(str(self.path), 1, 1)

    def place(self, node: yaml.Node | None) -> Place:
        if node is None or node.start_mark is None:
            return self._top()
        return Place(str(self.path), node.start_mark.line + 1, node.start_mark.column + 1)

    def wrong(self, node: yaml.Node | None, message: str, cure: str = "") -> Any:
        self.mistakes.append(Mistake(self.place(node), message, cure))
        return BAD

    def warn(self, node: yaml.Node, message: str, cure: str = "") -> None:
        self.warnings.append(Mistake(self.place(node), message, cure))

    def pairs(self, node: yaml.Node, at: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The keys of a mapping, each with its key node and value node; doubles are mistakes."""
        if not isinstance(node, yaml.MappingNode):
            cure = "write KEY: VALUE lines, or {KEY: VALUE}"
            self.wrong(node, f"{at or 'settings'}: expected a mapping, found {found(node)}", cure)
            return {}
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        before = f"{at}: " if at else ""
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.wrong(key, f"{before}a key must be text", "write KEY: VALUE")
            elif key.value in pairs:
                first = self.place(pairs[key.value][0])
                self.wrong(key, f"{before}the key {key.value!r} stands twice", f"first at {first}")
            else:
                pairs[key.value] = (key, value)
        return pairs

    def value(self, node: yaml.Node, kind: Any, at: str) -> Any:
        """The node as a value of `kind`; BAD after a mistake was noted."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            return self._optional(node, arguments, at)
        if origin is Literal:
            return self._choice(node, arguments, at)
        if origin is tuple:
            return self._sequence(node, arguments[0], at)
        if origin is not None and issubclass(origin, Mapping):
            return self._mapping(node, arguments[1], at)
        if hasattr(kind, "from_node"):
            return kind.from_node(self, node, at)
        if hasattr(kind, "parse"):
            return self._parsed(node, kind, at)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self.fields(self.pairs(node, at), kind, at)
        return self._scalar(node, kind, at)

    def _optional(self, node: yaml.Node, arguments: tuple[Any, ...], at: str) -> Any:
        if node.tag == TAG + "null":
            return None
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return self.value(node, kind, at)

    def _choice(self, node: yaml.Node, choices: tuple[Any, ...], at: str) -> Any:
        text = self._scalar(node, str, at)
        if text is not BAD and text not in choices:
            return self.wrong(
                node, f"{at}: {text!r} is not one of its words", nearest(text, choices)
            )
        return text

    def _sequence(self, node: yaml.Node, kind: Any, at: str) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            return self.wrong(node, f"{at}: expected a list, found {found(node)}", "write [a, b]")
        values = [self.value(item, kind, f"{at}[{i}]") for i, item in enumerate(node.value)]
        return BAD if any(value is BAD for value in values) else tuple(values)

    def _mapping(self, node: yaml.Node, kind: Any, at: str) -> Any:
        pairs = self.pairs(node, at).items()
        return {key: self.value(value, kind, f"{at}.{key}") for key, (_, value) in pairs}

    def _parsed(self, node: yaml.Node, kind: Any, at: str) -> Any:
        text = self._scalar(node, str, at)
        if text is BAD:
            return BAD
        try:
            return kind.parse(text)
        except Wrong as error:
            message, _, cure = str(error).partition("; ")
            return self.wrong(node, f"{at}: {message}", cure)

    def _scalar(self, node: yaml.Node, kind: Any, at: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            message = f"{at}: expected {_expected(kind)}, found {found(node)}"
            return self.wrong(node, message, "write one value")
        tag = node.tag.removeprefix(TAG)
        if kind is Path and tag == "str" and not node.value:
            return self.wrong(node, f"{at}: the path is empty", "name a file or remove the key")
        if kind in (int, float) and len(node.value) > NUMBER_CAP:
            return self.wrong(node, f"{at}: the number is too long", "write a smaller one")
        if kind is Path and tag == "str":
            return self.located(node, node.value, at)
        if kind is str and tag == "str":
            return node.value
        if (kind, tag) in ((bool, "bool"), (int, "int")):
            return scalar(node)
        if kind is float and tag in ("int", "float"):
            return float(node.value)
        quotes = kind in (str, Path) and tag != "null"
        cure = "put it in quotes" if quotes else f"write {_expected(kind)}"
        return self.wrong(node, f"{at}: expected {_expected(kind)}, found {found(node)}", cure)

    def located(self, node: yaml.Node, text: str, at: str) -> Any:
        """The path that is written, from the file's own folder; BAD after a mistake was noted."""
        return (self.folder / Path(text).expanduser()).absolute()

    def fields(
        self, pairs: Mapping[str, tuple[yaml.Node, yaml.Node]], kind: type[T], at: str
    ) -> T | _Bad:
        """A dataclass from the pairs of a mapping: unknown, missing and wrong keys are mistakes."""
        hints = hints_of(kind)  # type: ignore[arg-type]
        known = {key_of(item): item for item in dataclasses.fields(kind) if item.init}  # type: ignore[arg-type]
        before = len(self.mistakes)
        given: dict[str, Any] = {}
        for key, (key_node, node) in pairs.items():
            where = f"{at}.{key}" if at else key
            if key not in known:
                self.wrong(key_node, f"unknown key {where!r}", nearest(key, known))
            else:
                given[known[key].name] = self.value(node, hints[known[key].name], where)
        for key, item in known.items():
            if key not in pairs and _required(item):
                first = next(iter(pairs.values()), (None,))[0]
                self.wrong(first, f"{at + ': ' if at else ''}the key {key!r} is missing", "add it")
        if len(self.mistakes) > before:
            return BAD
        try:
            return kind(**given)
        except ValueError as error:
            key = getattr(error, "key", "")
            place = pairs[key][1] if key in pairs else next(iter(pairs.values()), (None,))[0]
            message, _, cure = str(error).partition("; ")
            where = ".".join(part for part in (at, key) if part)
            self.wrong(place, f"{where + ': ' if where else ''}{message}", cure)
        return BAD


def _yaml_cure(problem: str) -> str:
    if "\\t" in problem:
        return "indent with spaces, not tabs"
    if "alias" in problem:
        return "define the anchor with & before the * that uses it"
    return "check quotes, brackets and indentation there"


def scalar(node: yaml.Node) -> str | int | float | bool | None:
    """A scalar node as the value that its tag says; text where it is not one of the core's."""
    tag, text = node.tag.removeprefix(TAG), str(node.value)
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag == "int" and len(text) <= NUMBER_CAP:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if tag == "float" and len(text) <= NUMBER_CAP else text


def found(node: yaml.Node) -> str:
    """A node in words, without its value: it may be a secret."""
    return _WORDS.get(node.tag.removeprefix(TAG), f"the tag {node.tag}")


def _expected(kind: Any) -> str:
    names = {str: "str", int: "int", float: "float", bool: "bool"}
    return "a path" if kind is Path else _WORDS[names.get(kind, "str")]


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
