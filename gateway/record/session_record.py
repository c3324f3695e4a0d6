# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of one session: each frame is sealed, hashed into the session's tree and copied."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from time import monotonic_ns, time_ns
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.model import RecordFailed
from gateway.record import seal, tree
from gateway.record.frames import (
    CLEAR,
    CLEAR_BYTES,
    KINDS,
    PARTIES,
    PREFIX_BYTES,
    SEAL_BYTES,
    VIEWS,
    session_text,
)
from gateway.record.gaps import Gaps
from gateway.record.journal import CLOSE_BYTES, Journal
from gateway.record.journal_file import JournalFile, Row, row_bytes
from gateway.record.log import now_text

_OVERHEAD = PREFIX_BYTES + CLEAR_BYTES + SEAL_BYTES
_NO_DIGEST = bytes(32)
_DELIVERED = VIEWS["delivered"]
_MOST_CLOSE_META = CLOSE_BYTES - _OVERHEAD
_KIND_BYTES = tuple(bytes([number]) for number in range(256))
_pack = CLEAR.pack
_seal = seal.seal


class RecordedSession:
    """Implements ports.SessionRecord. On the loop only."""

    __slots__ = (
        "_bound", "_cipher", "_closed", "_compression", "_file", "_gaps", "_journal", "_key",
        "_on_close", "_on_gap", "_row", "_salt", "id", "next", "ordinal", "payload_bytes", "peaks",
        "raw", "reserved", "told",
    )  # fmt: skip

    def __init__(
        self,
        raw: bytes,
        key: bytes,
        journal: Journal,
        salt: Callable[[], bytes],
        compression: int,
        on_close: Callable[[RecordedSession, str], None],
        on_gap: Callable[[RecordedSession, str], None],
    ) -> None:
        self.raw = raw
        self._bound = b"\x01" + raw
        self.id = session_text(raw)
        self.ordinal = -1
        self.next = 0
        """Sequence of the next frame, and so the frames written."""
        self.peaks: list[bytes] = []
        self.payload_bytes = 0
        self.reserved = 0
        """Bytes that the journal keeps for this session's footer row."""
        self.told = 0
        """Frames that a progress leaf counts."""
        self._key = key
        self._journal = journal
        self._salt = salt
        self._compression = compression
        self._on_close = on_close
        self._on_gap = lambda detail: on_gap(self, detail)
        self._file: JournalFile | None = None
        self._row: Row | None = None
        self._cipher: AESGCM | None = None
        self._closed = False
        self._gaps: Gaps | None = None

    def reserve(self) -> None:
        """Have the journal keep room to close this session."""
        self.reserved = row_bytes(0)
        self._journal.reserve(CLOSE_BYTES + self.reserved)

    def release(self) -> None:
        """The session never wrote a frame: nothing is needed for it."""
        self._closed = True
        self._journal.reserve(-CLOSE_BYTES - self.reserved)

    def append(
        self, kind: str, party: str, payload: bytes, meta: bytes = b"{}", operation: int = 0
    ) -> int:
        """As ports.SessionRecord."""
        if self._closed:
            raise RecordFailed(f"session {self.id} is closed in the record")
        journal = self._journal
        need = _OVERHEAD + len(meta) + len(payload)
        gaps = self._gaps
        if gaps is not None and gaps.open and not gaps.over(need):
            return gaps.lost(kind, payload)
        file = journal.file
        if file.at + need > file.limit:
            try:
                file = journal.room(need)
            except RecordFailed as error:
                if gaps is None:
                    raise
                return gaps.begin(kind, payload, error)
        return self._write(file, KINDS[kind], PARTIES[party], payload, meta, operation)

    def _write(
        self, file: JournalFile, kind: int, party: int, payload: bytes, meta: bytes, operation: int
    ) -> int:
        sequence, raw, size = self.next, self.raw, len(payload)
        if file is not self._file:
            self._enter(file)
        compression, digest, sealed = 0, _NO_DIGEST, b""
        if size:
            cipher = self._cipher or self._make_cipher(file)
            salt = self._salt()
            if size < seal.COMPRESS_FROM:
                # As seal.seal: a call less a frame.
                salted, nonce = salt + payload, sequence.to_bytes(12, "big")
                digest = sha256(salted).digest()
                sealed = cipher.encrypt(nonce, salted, self._bound + nonce[4:] + _KIND_BYTES[kind])
            else:
                compression, digest, sealed = _seal(
                    cipher, salt, raw, sequence, kind, payload, self._compression
                )
            self.payload_bytes += size
        clear = (
            _pack(1, kind, party, _DELIVERED, compression, raw, sequence, operation, 0, time_ns(),
                  monotonic_ns(), len(meta), size, digest) + meta
        )  # fmt: skip
        position = file.write(clear, sealed)
        # RFC 6962, as tree.append: a call less a frame.
        hashed, count, peaks = sha256(b"\0" + clear).digest(), sequence, self.peaks
        while count & 1:
            hashed = sha256(b"\1" + peaks.pop() + hashed).digest()
            count >>= 1
        peaks.append(hashed)
        self.next = sequence = sequence + 1
        if not sequence & (sequence - 1):
            self._grow()
        if self._journal.timer is None:
            self._journal.arm()
        return position

    def _enter(self, file: JournalFile) -> None:
        self._file, self._cipher = file, None
        self._row = Row(self.raw, self.next, file.at, self)
        file.rows.append(self._row)

    def _make_cipher(self, file: JournalFile) -> AESGCM:
        if not self._key:
            raise RecordFailed(f"the record {self.id} has no key, so it takes no payload")
        self._cipher = seal.cipher(self._key, _DELIVERED, file.generation)
        return self._cipher

    def _grow(self) -> None:
        """The tree may have a peak more from now on: its footer row is longer."""
        needed = row_bytes(self.next)
        self._journal.reserve(needed - self.reserved)
        self.reserved = needed

    def allow_gaps(self, allowed: Callable[[], bool]) -> None:
        """As ports.SessionRecord."""
        self._gaps = Gaps(self, self._journal, allowed, self._on_gap)

    def write_gap(self, meta: bytes) -> int:
        """As gaps.Writer."""
        file = self._journal.room_to_close(_OVERHEAD + len(meta))
        return self._write(file, KINDS["gap"], PARTIES["own"], b"", meta, 0)

    async def close(self, reason: str, summary: Mapping[str, Any]) -> None:
        """As ports.SessionRecord."""
        self.close_now(reason, summary)

    def close_now(self, reason: str, summary: Mapping[str, Any]) -> None:
        """Write the close frame and leaf, at once. Idempotent. Raises RecordFailed."""
        if self._closed:
            return
        if self._gaps is not None:
            self._gaps.close()
        meta = _close_meta(reason, summary)
        file = self._journal.room_to_close(_OVERHEAD + len(meta))
        self._write(file, KINDS["close"], PARTIES["own"], b"", meta, 0)
        self._closed = True
        assert self._row is not None
        self._row.finish()
        self._journal.reserve(-CLOSE_BYTES)
        self._journal.row_closed(self.reserved)
        self._key, self._cipher = b"", None
        self._on_close(self, reason)

    def root(self) -> str:
        """Of the session tree as it is, in hex."""
        return tree.root(self.peaks).hex()


def _close_meta(reason: str, summary: Mapping[str, Any]) -> bytes:
    """The close frame's metadata, cut to what is kept for it."""
    fields: dict[str, Any] = {"reason": reason, "detail": "", "closed": now_text()} | dict(summary)
    detail = str(fields["detail"])
    most = len(detail)
    while len(meta := _dump(fields)) > _MOST_CLOSE_META:
        if not most:
            counts = {name: value for name, value in fields.items() if isinstance(value, int)}
            return _dump({"reason": reason[:64], "detail": "", "closed": now_text()} | counts)
        most //= 2
        fields["detail"] = detail[:most]
    return meta


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
