# SPDX-License-Identifier: GPL-3.0-or-later
"""What apply, diff, get and delete share: documents from files, and changes made visible."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from gateway.admin.cli.output import Failed, visible
from gateway.config import ConfigError
from gateway.config.declaring import yaml_files
from gateway.config.documents import plain, secret_keys
from gateway.config.reading import CoreLoader, Reader
from gateway.config.values import PublicKey
from gateway.declare.orders import ALL_KINDS, BY_PLURAL

NODES_CAP = 500_000
"""Values of one file, with what aliases repeat."""
KEY_CAP = 64 * 1024

files_option = click.option(
    "-f",
    "--file",
    "paths",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="A YAML file of objects, or a folder of them; may be given again.",
)
set_option = click.option(
    "--set", "set_name", default=None, help="The set that these objects are: managed by apply:NAME."
)
prune_option = click.option(
    "--prune", is_flag=True, help="Delete what the same set declared before and is not in it now."
)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would take for something else than a text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Dumper.yaml_implicit_resolvers = {
    first: [*resolvers, *CoreLoader.yaml_implicit_resolvers.get(first, ())]
    for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _first, _resolvers in CoreLoader.yaml_implicit_resolvers.items():
    _Dumper.yaml_implicit_resolvers.setdefault(_first, list(_resolvers))


def yaml_text(document: Mapping[str, Any]) -> str:
    """A document as `apply` reads it; control and bidi characters are escaped."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=10_000)


def documents_in(paths: Sequence[Path]) -> list[Any]:
    """The documents of files and folders. Raises Failed with every mistake at its place."""
    documents: list[Any] = []
    readers = [Reader(path) for path in yaml_files(paths)]
    for reader in readers:
        for node in reader.documents():
            if not node.tag.endswith(":null"):
                _check_size(node, reader.path)
                documents.append(_with_keys(plain(node), reader))
    if mistakes := [mistake for reader in readers for mistake in reader.mistakes]:
        raise Failed(str(ConfigError(mistakes)), "correct the lines named above")
    return documents


def _check_size(root: yaml.Node, path: Path) -> None:
    count, waiting = 0, [root]
    while waiting:
        node = waiting.pop()
        count += 1
        if count > NODES_CAP:
            raise Failed(f"{path}: more than {NODES_CAP} values", "use fewer aliases, or split it")
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [value for _, value in node.value]


def _with_keys(document: Any, reader: Reader) -> Any:
    """Public keys in files beside the document are sent along; the gateway has no such files."""
    kind = next(iter(document), "") if isinstance(document, dict) else ""
    for key in secret_keys(str(kind), PublicKey):
        value = document.get(key)
        source = value.get("from") if isinstance(value, dict) else None
        if isinstance(source, str) and source.startswith("file:") and source[5:6] != "/":
            document[key] = _read_key(reader.folder / source[5:])
    return document


def _read_key(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            return file.read(KEY_CAP).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "not a key"
        raise Failed(f"{path}: {reason}", "name the file of a public key") from None


def kind_in(text: str) -> str:
    """A kind, written in the singular or the plural. Raises Failed."""
    kind = BY_PLURAL.get(text, text)
    if kind not in ALL_KINDS:
        raise Failed(f"{visible(text)!r} is no kind of object", f"known are {', '.join(ALL_KINDS)}")
    return kind


def differs(change: Mapping[str, Any]) -> bool:
    """Whether a change does more than take over an object that stays as it is."""
    return change["before"] != change["after"] or bool(change["secret"])


def difference(change: Mapping[str, Any]) -> Iterator[str]:
    """A change as a unified diff of YAML."""
    name = f"{change['kind']} {change['name']}"
    before, after = (
        yaml_text(one).splitlines() if one is not None else []
        for one in (change["before"], change["after"])
    )
    old = name if change["before"] is not None else "nothing"
    new = name if change["after"] is not None else "nothing"
    for line in difflib.unified_diff(before, after, old, new, lineterm=""):
        yield visible(line)
    if change["secret"]:
        yield f"# {visible(name)}: a new secret is given"


def colored(line: str) -> str:
    """A line of a diff as a terminal shows it."""
    color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=color) if color else line
