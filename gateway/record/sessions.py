# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions as `sessions list` prints them, from what their frames and the node's log say.

`state` is
- `open`: no end in the record. On a data folder without a running gateway: `interrupted`;
- `closed`: it ended by itself, or with its gateway (`drain`, `record`, `target_unreachable`, ...);
- `killed`: authority was taken away while it ran (`killed`, `revoked`, `expired`);
- `interrupted`: its gateway was killed; recovery signed what was there. Counters are counted anew;
- `lost`: its log ended without an end of the session, so nobody can say what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SessionDocument = dict[str, Any]
_TAKEN_AWAY = frozenset({"killed", "revoked", "expired"})
_OPENED = ("target", "protocol", "user", "grant", "client", "gateway", "opened")
_COUNTED = ("operations", "denied", "held", "masked", "rows", "bytes")


Wanted = Callable[[Mapping[str, Any]], bool]
"""Whether a record is asked for, by the metadata of its open frame."""


def of_any(meta: Mapping[str, Any]) -> bool:
    return True


def of_node(meta: Mapping[str, Any]) -> bool:
    return (meta.get("target"), meta.get("origin")) == (None, None)


def of_grant(meta: Mapping[str, Any]) -> bool:
    return meta.get("record") == "grant"


def of_client(meta: Mapping[str, Any]) -> bool:
    return not of_node(meta) and not of_grant(meta)


@dataclass(slots=True)
class Counted:
    """What a session's frames say it did, where no close frame sums it up."""

    operations: int = 0
    denied: int = 0
    held: int = 0
    masked: int = 0
    rows: int = 0
    bytes: int = 0
    _asked: int = 0

    def frame(self, kind: str, payload_length: int, meta: Mapping[str, Any]) -> None:
        """Take one frame into account; frames come in their order."""
        if kind in ("request", "answer"):
            self.bytes += payload_length
        for event in _objects(meta.get("events")):
            if event.get("ev") == "ask":
                self._ask(event)
            elif event.get("ev") == "done":
                self.rows += _count(event.get("rows")) or 0

    def _ask(self, event: Mapping[str, Any]) -> None:
        number = _count(event.get("op")) or 0
        # Operations count upwards: a lower number is one that was asked again.
        if number > self._asked:
            self._asked = number
            self.operations += 1
        decision = event.get("decision")
        if isinstance(decision, Mapping):
            self.denied += decision.get("verdict") == "deny"
            self.held += decision.get("verdict") == "hold"
            self.masked += bool(decision.get("masks"))

    def document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _COUNTED}


def opened(session_id: str, meta: Mapping[str, Any]) -> SessionDocument:
    """A session of which only the open frame is known; what is not known is null."""
    origin = meta.get("origin")
    known: dict[str, Any] = {name: _text(meta.get(name)) for name in _OPENED}
    return {
        "id": session_id,
        "target": known["target"],
        "protocol": known["protocol"],
        "user": known["user"],
        "origin": _label(origin) if isinstance(origin, Mapping) else None,
        "chain": _texts(meta.get("labels_chain")),
        "groups": _texts(meta.get("groups")),
        "grant": known["grant"],
        "client": known["client"],
        "labels": _mapping(meta.get("labels")),
        "gateway": known["gateway"],
        "policies": [dict(one) for one in _objects(meta.get("policies"))],
        "opened": known["opened"],
        "closed": None,
        "state": "open",
        "reason": None,
        **dict.fromkeys(_COUNTED),
    }


def close(document: SessionDocument, meta: Mapping[str, Any]) -> None:
    """Add what the close frame says."""
    reason = _text(meta.get("reason"))
    document["closed"] = _text(meta.get("closed"))
    document["reason"] = reason
    document["state"] = "killed" if reason in _TAKEN_AWAY else "closed"
    document.update({name: _count(meta.get(name)) for name in _COUNTED})
    for name in ("held", "masked"):
        # A close frame that does not count them is of a gateway that can neither hold nor mask.
        document[name] = document[name] or 0


def end_by_log(document: SessionDocument, reason: str | None, at: str | None, ended: bool) -> None:
    """The end of a session that has no close frame here: by its close leaf, else by its log's end
    (`ended`)."""
    if reason is not None:
        document["reason"] = reason
        document["closed"] = None if reason == "interrupted" else at
        taken = "killed" if reason in _TAKEN_AWAY else "closed"
        document["state"] = "interrupted" if reason == "interrupted" else taken
    elif ended:
        document["state"] = "lost"


def hops(meta: Mapping[str, Any]) -> list[tuple[str, str | None, bool]]:
    """(actor, grant, proved) from the origin to the current actor."""
    origin = meta.get("origin")
    if not isinstance(origin, Mapping):
        return []
    below = [
        (_text(hop.get("name")) or "", _text(hop.get("grant")), hop.get("proved") is True)
        for hop in _objects(meta.get("chain"))
    ]
    return [(_label(origin), _text(meta.get("root_grant")), True), *below]


def tree(
    sessions: Iterable[tuple[SessionDocument, Sequence[tuple[str, str | None, bool]]]],
    unused: Iterable[Sequence[tuple[str, str | None, bool]]] = (),
) -> list[dict[str, Any]]:
    """`sessions tree`: sessions under the actors that opened them, actors under their parents.

    `unused`: paths of grants, which stand there also when they opened no session.
    """
    tops: list[dict[str, Any]] = []
    for path in unused:
        level = tops
        for actor, grant, proved in path:
            level = _node(level, actor, grant, proved)["children"]
    for document, path in sessions:
        level, node = tops, None
        for actor, grant, proved in path:
            node = _node(level, actor, grant, proved)
            level = node["children"]
        if node is not None:
            node["sessions"].append(document)
    return tops


def _node(
    level: list[dict[str, Any]], actor: str, grant: str | None, proved: bool
) -> dict[str, Any]:
    for node in level:
        if (node["actor"], node["grant"]) == (actor, grant):
            return node
    node = {"actor": actor, "grant": grant, "proved": proved, "sessions": [], "children": []}
    level.append(node)
    return node


def _label(origin: Mapping[str, Any]) -> str:
    return _text(origin.get("name")) or _text(origin.get("subject")) or ""


# What stands in a record was written by a gateway, or by whoever changed the file since.


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
