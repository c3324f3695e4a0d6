# SPDX-License-Identifier: GPL-3.0-or-later
"""What an auditor trusts: a C2SP tlog-policy, plain vkeys, or the folder of a witness of theirs.

Three more words are Trailgate's own: `root VKEY`, an offline root whose certificates count;
`certificate BASE64`, one of them; `node NAME`, whose logs must be there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.verify.certificate import Certificate, open_certificate
from gateway.verify.note import COSIGNATURE, ED25519, NoteError, VerifierKey, exact_base64

MOST_FILE = 1 << 20
MOST_SEEN = 65536
SEEN = "seen"
POLICY = "policy"
TRUST_CURE = "name a C2SP policy, a file of vkeys, or a witness's folder by --trust"
_KEYWORDS = ("log", "witness", "group", "quorum", "root", "node", "certificate")


@dataclass(slots=True)
class Trust:
    """Logs by their origin, witnesses by their name in the policy, the quorum, and roots."""

    logs: dict[str, VerifierKey] = field(default_factory=dict)
    """The key named last for each; a log that changed its key may have several lines."""
    keys: dict[str, list[VerifierKey]] = field(default_factory=dict)
    """All keys that are named for each log."""
    witnesses: dict[str, VerifierKey] = field(default_factory=dict)
    quorum: str | None = None
    """None: no checkpoint needs a cosignature."""
    seen: list[bytes] = field(default_factory=list)
    """The latest checkpoint of each log that the witness itself saw."""
    roots: dict[str, VerifierKey] = field(default_factory=dict)
    certificates: list[Certificate] = field(default_factory=list)
    nodes: set[str] = field(default_factory=set)
    """Whose logs must be there, besides those of the certificates."""
    _groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    _members: set[str] = field(default_factory=set)
    _quorums: int = 0

    @staticmethod
    def load(path: Path) -> Trust:
        """A file, or a witness's folder. Raises NoteError, OSError, UnicodeDecodeError."""
        if not path.is_dir():
            return Trust.parse(_text(path))
        trust = Trust.parse(_text(path / POLICY))
        folder = path / SEEN
        for seen in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not seen.name.startswith("."):
                with seen.open("rb") as file:
                    trust.seen.append(file.read(MOST_SEEN))
        return trust

    @staticmethod
    def parse(text: str) -> Trust:
        """Lines of a policy; a line that is a vkey alone is a log. Raises NoteError."""
        trust, certificates = Trust(), list[bytes]()
        for number, line in enumerate(text.split("\n"), 1):
            items = re.split(r"[ \t]+", line.strip(" \t\r"))
            if not items[0] or items[0].startswith("#"):
                continue
            try:
                if items[0] == "certificate" and len(items) == 2:
                    certificates.append(exact_base64(items[1]))
                else:
                    trust._line(items)
            except NoteError as error:
                raise NoteError(f"line {number} {error}") from None
        for data in certificates:
            trust._certify(data)
        if not trust.logs and not trust.roots:
            raise NoteError("names no key of a log, and no root")
        if trust.witnesses and not trust._quorums:
            raise NoteError("names witnesses and no quorum: add `quorum NAME` or `quorum none`")
        return trust

    def _line(self, items: Sequence[str]) -> None:
        word, rest = items[0], items[1:]
        if word not in _KEYWORDS:
            word, rest = "log", items
            if len(items) != 1:
                raise NoteError("is neither a vkey nor a line of a tlog-policy")
        if not rest:
            raise NoteError(f"has nothing behind {word!r}")
        getattr(self, f"_{word}")(*rest[:2], *[rest[2:]] if len(rest) > 2 else [])

    def _log(self, vkey: str, url: str = "", more: Sequence[str] = ()) -> None:
        key = VerifierKey.parse(vkey, ED25519)
        if more:
            raise NoteError("has more than a log's key and URL")
        self.add_log(key)

    def add_log(self, key: VerifierKey) -> None:
        """Trust one more key for its origin; it is the newest of them."""
        if key not in (known := self.keys.setdefault(key.name, [])):
            known.append(key)
        self.logs[key.name] = key

    def _root(self, vkey: str, *more: object) -> None:
        key = VerifierKey.parse(vkey, ED25519)
        if more or self.roots.get(key.name, key) != key:
            raise NoteError("has more than a root's key, or is a second key of that name")
        self.roots[key.name] = key

    def _node(self, name: str, *more: object) -> None:
        if more or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", name):
            raise NoteError("is no node: write node NAME")
        self.nodes.add(name)

    def _certify(self, data: bytes) -> None:
        if not self.roots:
            raise NoteError("has a certificate and names no root")
        self.certificates.append(open_certificate(data, self.roots.values()))

    def _witness(self, name: str, vkey: str = "", more: Sequence[str] = ()) -> None:
        key = VerifierKey.parse(vkey, COSIGNATURE)
        if len(more) > 1:
            raise NoteError("has more than a witness's name, key and URL")
        self._new(name)
        if any(other.public == key.public for other in self.witnesses.values()):
            raise NoteError(f"names the key of {name} a second time")
        self.witnesses[name] = key

    def _group(self, name: str, least: str = "", members: Sequence[str] = ()) -> None:
        self._new(name)
        for one in members:
            if one in self._members or (one not in self.witnesses and one not in self._groups):
                raise NoteError(
                    f"has the member {one}, which is not defined, or in a group already"
                )
            self._members.add(one)
        words = {"any": 1, "all": len(members)}
        count = words.get(least, int(least) if re.fullmatch("[1-9][0-9]{0,3}", least) else 0)
        if not 1 <= count <= len(members):
            raise NoteError("is no group: write group NAME any|all|K NAME...")
        self._groups[name] = (count, tuple(members))

    def _quorum(self, name: str, *more: object) -> None:
        self._quorums += 1
        if more or self._quorums > 1:
            raise NoteError("is a second quorum, or has more than a name")
        if name != "none" and name not in self.witnesses and name not in self._groups:
            raise NoteError(f"has the quorum {name}, which no line before it defines")
        self.quorum = None if name == "none" else name

    def _new(self, name: str) -> None:
        if name == "none" or name in self.witnesses or name in self._groups:
            raise NoteError(f"defines the name {name} a second time")

    def witnessed_at(self, cosigned: Mapping[str, int]) -> int | None:
        """When the quorum had cosigned, by the witnesses' times (POSIX seconds); None: it has not.

        `cosigned`: time by the witness's name in the policy.
        """
        return self._at(self.quorum, cosigned.get) if self.quorum else None

    def _at(self, name: str, of: Callable[[str], int | None]) -> int | None:
        if name not in self._groups:
            return of(name)
        least, members = self._groups[name]
        times = sorted(at for one in members if (at := self._at(one, of)) is not None)
        return times[least - 1] if len(times) >= least else None


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MOST_FILE + 1)
    if len(data) > MOST_FILE:
        raise NoteError(f"has more than {MOST_FILE} bytes")
    return data.decode("utf-8")
