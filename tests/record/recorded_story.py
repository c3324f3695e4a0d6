# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence of sessions that say something: opens, statements, answers and closes, over files."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.protocols.postgresql import recorded
from tests.verify.corpus import Corpus, SessionWriter, dump

Step = tuple[SessionWriter, str, bytes, bytes]
INT4 = 23
ORIGIN = {"issuer": "https://id", "subject": "u1", "name": "alice", "kind": "person"}


def opening(
    session: SessionWriter, actors: tuple[str, ...], opened: str, target: str | None = "orders"
) -> bytes:
    """The metadata of an open frame; the grant of an actor is `g_` and its name."""
    chain = [
        {"name": name, "proved": False, "issuer": "", "subject": "", "grant": f"g_{name}",
         "isolation": "none"}
        for name in actors
    ]  # fmt: skip
    return dump(
        {
            "session": session.id,
            "ordinal": 0,
            "target": target,
            "protocol": "postgresql",
            "user": "app",
            "database": "shop",
            "origin": ORIGIN,
            "groups": ["data-agents"],
            "chain": chain,
            "labels_chain": ["alice", *actors],
            "grant": f"g_{actors[-1]}" if actors else "g_root",
            "root_grant": "g_root",
            "login": {},
            "client": "127.0.0.1:5000",
            "labels": {"application_name": "psql"},
            "gateway": "gw1",
            "policies": [{"name": "p", "version": "v1", "mode": "enforce"}],
            "opened": opened,
        }
    )


def closing(reason: str = "client", closed: str = "2026-11-24T12:00:09.000000Z") -> bytes:
    return dump(
        {"reason": reason, "detail": "", "closed": closed, "operations": 2, "denied": 1, "rows": 3,
         "bytes": 99}
    )  # fmt: skip


def steps_of(session: SessionWriter, record: recorded.Record) -> list[Step]:
    """What a session asked and got, as steps of the corpus."""
    return [
        (session, frame.kind, frame.payload or b"", dump(dict(frame.meta)))
        for frame in record.frames
    ]


def rows(*values: str) -> bytes:
    """The answer of a query with one column."""
    found = b"".join(recorded.row(value.encode()) for value in values)
    return recorded.columns(("name", 25, 0)) + found + recorded.complete(f"SELECT {len(values)}")


def journal_file(closed: bytes, size: int = 1 << 20) -> bytes:
    """A closed file as it was while it was written: no footer, zeros behind its frames."""
    (length,) = struct.unpack("<I", closed[-16:-12])
    return closed[: -(length + 20)].ljust(size, b"\0")


@dataclass
class Story:
    """One node: alice's reader asked and was refused; her writer was killed while it asked."""

    data: Path
    corpus: Corpus = field(init=False)
    reader: SessionWriter = field(init=False)
    writer: SessionWriter = field(init=False)
    asked: recorded.Record = field(default_factory=recorded.Record)
    begun: recorded.Record = field(default_factory=recorded.Record)

    def __post_init__(self) -> None:
        self.corpus = corpus = Corpus(self.data)
        self.reader, self.writer = corpus.session(), corpus.session()
        self.asked.simple("select name", rows("Ada", "Grace\x1b[2J"), tag="SELECT 2", rows=2)
        denied = recorded.query("drop table t")
        ask = self.asked.ask(
            "query", self.asked.asked, self.asked.asked + len(denied), verdict="deny"
        )
        self.asked.request(denied, ask)
        self.asked.answer(
            recorded.READY, self.asked.done(ask["op"], self.asked.answered, self.asked.answered,
                                            status="denied", sqlstate="42501")
        )  # fmt: skip
        self.begun.simple("insert into t values (1)", recorded.complete("INSERT 0 1"), rows=1)

    def files(self) -> tuple[bytes, bytes]:
        """Two closed files: the reader's session is over in the second, the writer's is not."""
        asked = steps_of(self.reader, self.asked)
        times = ("2026-11-24T12:00:01.000000Z", "2026-11-24T12:00:02.000000Z")
        opened = (
            opening(self.reader, ("boss", "reader"), times[0]),
            opening(self.writer, ("boss", "writer"), times[1], "stock"),
        )
        first: list[Step] = [
            (self.reader, "open", b"", opened[0]),
            (self.writer, "open", b"", opened[1]),
            *asked[:1],
        ]
        second = [
            *asked[1:],
            (self.reader, "close", b"", closing()),
            *steps_of(self.writer, self.begun),
        ]
        return self.corpus.file(0, first), self.corpus.file(1, second)

    def shipped(self) -> Story:
        """Both files as segments."""
        for number, data in enumerate(self.files()):
            self.corpus.shipped(number, data, 3)
        self.corpus.close(self.reader)
        self.corpus.write()
        return self

    def live(self) -> Story:
        """The first shipped, the second still written."""
        first, second = self.files()
        self.corpus.shipped(0, first, 3)
        self.corpus.put(self.data / "journal" / "1.journal", journal_file(second))
        self.corpus.write()
        return self

    def identity(self) -> Path:
        path = self.corpus.identity_file()
        path.chmod(0o600)
        return path

    def meta(self) -> list[dict[str, Any]]:
        return [dict(frame.meta) for frame in self.asked.frames]
