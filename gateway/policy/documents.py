# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy documents: YAML 1.2 core with every mistake at its line, checked into plain values."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gateway.policy.conditions import Window, compiled, window_of
from gateway.policy.languages.sql.kinds import WORDS

FLAGS = ("unfiltered_write", "no_limit", "dynamic", "do_block", "copy_program", "unanalysable")
_TOP = ("policy", "description", "mode", "match", "rules", "tests", "strict", "durability",
        "on_record_failure")  # fmt: skip
_MATCH = ("targets", "groups", "labels", "protocols", "issuers", "kinds", "users", "actor")
_RULE = ("id", "allow", "deny", "when", "unless", "at", "reason")
_LATER = ("approve", "mask", "limit", "isolation", "masks", "limits")
_LANGUAGES = ("shell", "exec", "sftp", "kubernetes", "http", "mcp", "redis", "forward")
_SQL = ("kinds", "reads", "writes", "functions", *FLAGS)
_TEST = ("as", "target", "sql", "expect", "rule", "search_path", "parameters")
TEST_IDENTITY = ("groups", "chain", "issuer", "subject", "kind", "actor", "user")
_IDENTITIES = ("person", "workload")
_VERDICTS = ("allow", "deny", "would_deny")


class PolicyError(Exception):
    """Documents that cannot be used; one mistake a line, each `file:line: what`."""


@dataclass(frozen=True, slots=True)
class Selector:
    """What of SQL a rule speaks of; None narrows nothing."""

    kinds: tuple[str, ...] | None = None
    reads: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None
    functions: tuple[str, ...] | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    action: str
    sql: Selector
    when: Any = None
    unless: Any = None
    at: Window | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    version: str
    mode: str
    match: dict[str, Any]
    rules: tuple[Rule, ...]
    strict: bool = False
    durability: str = "process"
    on_record_failure: str = "close"
    """`best_effort`: sessions go on while there is no room for the record; the gap is signed."""
    tests: tuple[dict[str, Any], ...] = ()
    timed: bool = False
    place: str = field(default="", compare=False)
    text: str = field(default="", compare=False, repr=False)
    """As it was read; `version` is its SHA-256."""


class _Core(yaml.SafeLoader):
    """YAML 1.2 core: `on`, `no` and `22:00` are strings."""


_Core.yaml_implicit_resolvers = {}
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")
)


class _Reader:
    """Checks one document and gathers its mistakes."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.mistakes: list[str] = []
        self.within = ""

    def wrong(self, node: yaml.Node, what: str) -> None:
        self.mistakes.append(f"{self.place}:{node.start_mark.line + 1}: {what}")

    def keys(self, node: yaml.Node, known: Iterable[str], what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.wrong(node, f"{what} must be a mapping")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in found:
                self.wrong(key, f"`{name}` is given twice")
            elif name in _LATER:
                self.wrong(key, f"{self.within}this version does not have `{name}`; take it out")
            elif name in _LANGUAGES:
                where = f"{self.within}this version does not have the language `{name}`"
                self.wrong(key, f"{where}; it has `sql`")
            elif name not in known:
                self.wrong(key, f"unknown key `{name}`{_nearest(name, known)}")
            found.setdefault(name, value)
        return found

    def word(self, node: yaml.Node | None, what: str, among: Iterable[str] = ()) -> str:
        if node is None:
            return ""
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self.wrong(node, f"{what} must be " + (" or ".join(among) if among else "a word"))
            return ""
        if among and node.value not in among:
            hint = _nearest(node.value, among)
            self.wrong(node, f"{what} must be " + " or ".join(among) + hint)
            return ""
        return str(node.value)

    def words(self, node: yaml.Node | None, what: str) -> tuple[str, ...] | None:
        if node is None:
            return None
        good = isinstance(node, yaml.SequenceNode) and node.value  # an empty list speaks of nothing
        if not good or not all(isinstance(n, yaml.ScalarNode) and n.value for n in node.value):
            self.wrong(node, f"{what} must be a list of words, at least one")
            return ()
        return tuple(str(n.value) for n in node.value)

    def patterns(self, node: yaml.Node | None, what: str) -> tuple[str, ...] | None:
        found = self.words(node, what)
        for pattern in found or ():
            if node is not None and (pattern.count(".") > 1 or "" in pattern.split(".")):
                self.wrong(node, f"{what}: `{pattern}` is neither `schema.name` nor `name`")
        return found

    def true(self, node: yaml.Node | None, what: str) -> bool:
        if node is None:
            return False
        if node.tag != "tag:yaml.org,2002:bool":
            self.wrong(node, f"{what} must be true or false")
        return str(node.value).lower() == "true"

    def selector(self, node: yaml.Node, action: str) -> Selector:
        sql = self.keys(node, ("sql",), action).get("sql")
        if sql is None:
            if any(name in _LANGUAGES for name in _keys_of(node)):  # said already
                return Selector()
            self.wrong(node, f"{action} must name a language: {action}: {{sql: {{...}}}}")
            return Selector()
        parts = self.keys(sql, _SQL, "sql")
        kinds = self.words(parts.get("kinds"), "kinds")
        for kind in kinds or ():
            if kind not in WORDS:
                self.wrong(parts["kinds"], f"unknown kind `{kind}`{_nearest(kind, WORDS)}")
        flags = tuple(flag for flag in FLAGS if self.true(parts.get(flag), flag))
        for flag in FLAGS:
            if flag in parts and (action == "allow" or flag not in flags):
                self.wrong(parts[flag], f"`{flag}` can only be `true`, and only in a deny")
        lists = {k: self.patterns(parts.get(k), k) for k in ("reads", "writes", "functions")}
        return Selector(kinds, flags=flags, **lists)

    def rule(self, node: yaml.Node) -> Rule:
        self.within = f"rule `{_id_of(node)}`: "
        rule = self._rule(node)
        self.within = ""
        return rule

    def _rule(self, node: yaml.Node) -> Rule:
        parts = self.keys(node, _RULE, "a rule")
        actions = [a for a in ("allow", "deny") if a in parts]
        if len(actions) != 1 or not parts.get("id"):
            if not any(name in parts for name in _LATER):  # said already
                self.wrong(node, "a rule has an id and exactly one of allow, deny")
            return Rule("", "deny", Selector())
        sql = self.selector(parts[actions[0]], actions[0])
        conditions = {k: self._cel(parts.get(k), k) for k in ("when", "unless")}
        reason = self.word(parts.get("reason"), "reason")
        at = self._window(parts.get("at"))
        return Rule(
            self.word(parts["id"], "id"), actions[0], sql, at=at, reason=reason, **conditions
        )

    def _cel(self, node: yaml.Node | None, what: str) -> Any:
        if node is None:
            return None
        try:
            return compiled(self.word(node, what))
        except ValueError as exc:
            self.wrong(node, f"{what}: {str(exc).splitlines()[0]}")
            return None

    def _window(self, node: yaml.Node | None) -> Window | None:
        if node is None:
            return None
        parts = self.keys(node, ("days", "from", "to", "zone"), "at")
        texts = {k: self.word(parts.get(k), k) for k in ("from", "to", "zone")}
        try:
            return window_of(self.words(parts.get("days"), "days"), **texts)
        except (ValueError, KeyError) as exc:
            self.wrong(node, f"at: {exc}")
            return None

    def match(self, node: yaml.Node | None) -> dict[str, Any]:
        if node is None:
            return {}
        parts = self.keys(node, _MATCH, "match")
        found: dict[str, Any] = {}
        for key, value in parts.items():
            if key == "labels":
                found[key] = self._labels(value)
            elif key == "actor":
                groups = self.keys(value, ("groups",), "actor").get("groups")
                if groups is None:
                    self.wrong(value, "actor must say groups: [..]")
                found["actor.groups"] = self.words(groups, "actor.groups") or ()
            elif key in _MATCH:
                found[key] = self.words(value, key) or ()
        for kind in found.get("kinds", ()):
            if kind not in _IDENTITIES:
                self.wrong(parts["kinds"], f"kinds must be {' or '.join(_IDENTITIES)}")
        return found

    def _labels(self, node: yaml.Node) -> dict[str, str]:
        if not isinstance(node, yaml.MappingNode) or not node.value:
            self.wrong(node, "labels must be a mapping, at least one")
            return {}
        return {str(key.value): self.word(value, "a label") for key, value in node.value}

    def document(self, text: str, root: yaml.Node) -> Document:
        parts = self.keys(root, _TOP, "a policy")
        if "policy" not in parts or "rules" not in parts:
            self.wrong(root, "a policy has `policy` (its name) and `rules`")
        rules = parts.get("rules")
        nodes = rules.value if isinstance(rules, yaml.SequenceNode) else []
        if rules is not None and not isinstance(rules, yaml.SequenceNode):
            self.wrong(rules, "rules must be a list")
        mode = self.word(parts.get("mode"), "mode", ("enforce", "observe")) or "enforce"
        level = self.word(parts.get("durability"), "durability", ("process", "disk"))
        failure = parts.get("on_record_failure")
        failed = self.word(failure, "on_record_failure", ("close", "best_effort"))
        found = tuple(self.rule(node) for node in nodes)
        seen: set[str] = set()
        for node, rule in zip(nodes, found, strict=True):
            if rule.id in seen:
                self.wrong(node, f"rule id `{rule.id}` is given twice")
            seen.add(rule.id)
        return Document(
            self.word(parts.get("policy"), "policy"),
            hashlib.sha256(text.encode()).hexdigest(),
            mode,
            self.match(parts.get("match")),
            found,
            self.true(parts.get("strict"), "strict"),
            level or "process",
            failed or "close",
            self.tests(parts.get("tests")),
            any(rule.when or rule.unless or rule.at for rule in found),
            self.place,
            text,
        )

    def tests(self, node: yaml.Node | None) -> tuple[dict[str, Any], ...]:
        items = node.value if isinstance(node, yaml.SequenceNode) else []
        if node is not None and not isinstance(node, yaml.SequenceNode):
            self.wrong(node, "tests must be a list")
        for item in items:
            self._test(item)
        if self.mistakes:
            return ()
        loader = _Core("")
        made = [loader.construct_object(item, deep=True) for item in items]
        return tuple({**t, "line": n.start_mark.line + 1} for t, n in zip(made, items, strict=True))

    def _test(self, node: yaml.Node) -> None:
        parts = self.keys(node, _TEST, "a test")
        if isinstance(node, yaml.MappingNode) and not {"sql", "target", "expect"} <= set(parts):
            self.wrong(node, "a test says target, sql and expect")
        for key in ("sql", "target", "rule"):
            self.word(parts.get(key), key)
        self.word(parts.get("expect"), "expect", _VERDICTS)
        if "as" in parts:
            self.keys(parts["as"], TEST_IDENTITY, "as")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), 1)
    return f", did you mean `{near[0]}`?" if near else ""


def _keys_of(node: yaml.Node) -> list[str]:
    return [str(key.value) for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []


def _id_of(node: yaml.Node) -> str:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == "id":
            return str(value.value)
    return "?"


def parse(text: str, place: str) -> Document:
    """One document. Raises PolicyError with all its mistakes."""
    reader = _Reader(place)
    try:
        for event in yaml.parse(text, _Core):
            if isinstance(event, yaml.AliasEvent):  # a small text could stand for a huge one
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise PolicyError(f"{place}:{line}: aliases are not taken")
        root = yaml.compose(text, _Core)
        if root is None:
            raise PolicyError(f"{place}:1: the document is empty")
        document = reader.document(text, root)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise PolicyError(f"{place}:{line}: {exc.problem}") from None
    except (yaml.YAMLError, RecursionError, AttributeError, TypeError) as exc:
        raise PolicyError(f"{place}:1: not a policy ({type(exc).__name__})") from None
    if reader.mistakes:
        raise PolicyError("\n".join(reader.mistakes))
    return document


@dataclass(frozen=True, slots=True, eq=False)
class PolicySet:
    """The documents in force together."""

    documents: tuple[Document, ...] = ()

    @classmethod
    def load(cls, paths: Iterable[Path]) -> PolicySet:
        """Read files, and the `*.yaml` of folders. Raises PolicyError with all mistakes."""
        found: list[Document] = []
        mistakes: list[str] = []
        for path in paths:
            files = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
            for file in files:
                try:
                    found.append(parse(file.read_text("utf-8"), str(file)))
                except PolicyError as exc:
                    mistakes.append(str(exc))
                except (OSError, UnicodeDecodeError) as exc:
                    mistakes.append(f"{file}:1: cannot be read ({exc})")
        names = [document.name for document in found]
        for document in found:
            if names.count(document.name) > 1:
                mistakes.append(f"{document.place}:1: policy `{document.name}` is there twice")
        if mistakes:
            raise PolicyError("\n".join(mistakes))
        return cls(tuple(found))
