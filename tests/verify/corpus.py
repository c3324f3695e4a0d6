# SPDX-License-Identifier: GPL-3.0-or-later
"""A small writer of valid evidence, made from docs/evidence-format.md alone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lz4.block
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

AT = "2026-11-24T12:00:00.000000Z"
KINDS = {"open": 1, "request": 2, "answer": 3, "event": 6, "close": 7, "node": 10}
META = b'{"at":0}'


def dump(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def merkle(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, by its recursive definition."""
    if len(leaves) < 2:
        return hashlib.sha256(b"\0" + leaves[0] if leaves else b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + merkle(leaves[:split]) + merkle(leaves[split:])).digest()


def peaks(leaves: list[bytes]) -> list[str]:
    found, at = [], 0
    for bit in reversed(range(len(leaves).bit_length())):
        if len(leaves) >> bit & 1:
            found.append(merkle(leaves[at : at + (1 << bit)]).hex())
            at += 1 << bit
    return found


@dataclass
class SessionWriter:
    raw: bytes
    key: bytes
    leaves: list[bytes] = field(default_factory=list)

    @property
    def id(self) -> str:
        return base64.b32encode(self.raw).decode().rstrip("=").lower()


class Corpus:
    """One node's evidence below DATA; `write` signs what was added."""

    def __init__(self, data: Path, node: str = "gw1") -> None:
        self.data, self.node = data, node
        self.root = data / "evidence"
        self.log = self.root / "log" / node / "0"
        self.signer = Ed25519PrivateKey.generate()
        self.identity = X25519PrivateKey.generate()
        self.leaves: list[bytes] = []
        self.origin = f"trailgate/{node}/0"
        public = b"\x01" + self.signer.public_key().public_bytes_raw()
        self.hash = hashlib.sha256(self.origin.encode() + b"\n" + public).digest()[:4]
        self.vkey = f"{self.origin}+{self.hash.hex()}+{base64.b64encode(public).decode()}"
        self.opened = 0
        readme = dump({"format": 1, "product": "trailgate", "keys": "../keys"})
        self.put(self.root / "README.json", readme)
        self.put(self.log / "node.vkey", self.vkey.encode() + b"\n")
        self.leaf("start", node=node, log=0, version="0", readme=sha(readme), vkey=self.vkey)

    def put(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def leaf(self, kind: str, /, **members: Any) -> None:
        self.leaves.append(dump({"type": kind, "at": AT, **members}))

    def identity_file(self) -> Path:
        path = self.data / "identity"
        raw = base64.b64encode(self.identity.private_bytes_raw()).decode()
        path.write_text(f"trailgate-identity-x25519 {raw}\n")
        return path

    def session(self) -> SessionWriter:
        session = SessionWriter(os.urandom(16), os.urandom(32))
        public = self.identity.public_key()
        recipient = "x25519:" + sha(public.public_bytes_raw())
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        info = b"trailgate/1 wrap " + session.id.encode()
        wrapped = base64.b64encode(suite.encrypt(session.key, public, info)).decode()
        suite_name = "hpke-x25519-hkdf-sha256-aes-256-gcm"
        wrap = dump({"format": 1, "session": session.id, "recipient": recipient,
                     "suite": suite_name, "wrapped": wrapped})  # fmt: skip
        self.put(self.data / "keys" / session.id / f"{sha(wrap)}.wrap", wrap)
        wraps = [{"recipient": recipient, "sha256": sha(wrap)}]
        self.leaf("key.wrap", session=session.id, wraps=wraps)
        self.leaf("open", session=session.id, ordinal=self.opened, kind="session")
        self.opened += 1
        return session

    def close(self, session: SessionWriter, reason: str = "client") -> None:
        root = merkle(session.leaves).hex()
        count = len(session.leaves)
        self.leaf("close", session=session.id, frames=count, root=root, reason=reason)

    def policy(self, text: bytes) -> None:
        self.put(self.root / "policy" / sha(text), text)
        self.leaf("policy", name="p", sha256=sha(text))

    def frame(
        self,
        session: SessionWriter,
        generation: bytes,
        kind: str,
        payload: bytes,
        meta: bytes = META,
    ) -> bytes:
        number, sequence = KINDS[kind], len(session.leaves)
        sealed, digest, compression = b"", bytes(32), 0
        if payload:
            salt, plain = os.urandom(16), payload
            digest = hashlib.sha256(salt + payload).digest()
            if len(payload) >= 4096:
                compression, plain = 1, lz4.block.compress(payload, store_size=False)
            info = b"trailgate/1 seal\x01" + generation
            key = HKDF(SHA256(), 32, None, info).derive(session.key)
            bound = b"\x01" + session.raw + sequence.to_bytes(8, "big") + bytes([number])
            sealed = AESGCM(key).encrypt(sequence.to_bytes(12, "big"), salt + plain, bound)
        clear = struct.pack("<5B3x16sQQIqQII32s", 1, number, 1, 1, compression, session.raw,
                            sequence, 0, 0, 1764000000 * 10**9, 5, len(meta), len(payload),
                            digest) + meta  # fmt: skip
        session.leaves.append(clear)
        body = clear + sealed
        return struct.pack("<II", 8 + len(body), zlib.crc32(generation + body)) + body

    def segment(self, number: int, steps: list[tuple[SessionWriter, str, bytes]]) -> Path:
        """A closed journal file of these frames, and its leaf."""
        data = self.file(number, [(*step, META) for step in steps])
        return self.shipped(number, data, len(steps))

    def file(self, number: int, steps: list[tuple[SessionWriter, str, bytes, bytes]]) -> bytes:
        """A closed journal file of these frames: session, kind, payload, metadata."""
        generation = os.urandom(16)
        header = dump({"format": 1, "node": self.node, "log": 0, "number": number,
                       "generation": generation.hex(), "created": AT})  # fmt: skip
        data = b"TGJRNL01" + struct.pack("<I", len(header)) + header
        data += struct.pack("<I", zlib.crc32(header))
        rows: dict[str, dict[str, Any]] = {}
        for session, kind, payload, meta in steps:
            sequence, offset = len(session.leaves), len(data)
            data += self.frame(session, generation, kind, payload, meta)
            row = rows.setdefault(
                session.id, {"session": session.id, "first": sequence, "offset": offset}
            )
            row.update(last=sequence, peaks=peaks(session.leaves))
        footer = dump({"frames": len(steps), "sessions": list(rows.values())})
        data += bytes(4) + footer + struct.pack("<II", len(footer), zlib.crc32(footer))
        return data + b"TGFOOT01"

    def shipped(self, number: int, data: bytes, frames: int) -> Path:
        """Publish a closed journal file."""
        name = f"seg/{self.node}/20261124/{sha(data)}"
        self.put(self.root / name, data)
        self.leaf("segment", object=name, sha256=sha(data), bytes=len(data),
                  frames=frames, number=number)  # fmt: skip
        return self.root / name

    def write(self) -> None:
        """Publish tiles and a checkpoint of all leaves so far."""
        size = len(self.leaves)
        for at in range(0, size, 256):
            part = self.leaves[at : at + 256]
            bundle = b"".join(struct.pack(">H", len(leaf)) + leaf for leaf in part)
            self.put(self._tile("entries", at // 256, len(part)), bundle)
        level, row = 0, [hashlib.sha256(b"\0" + leaf).digest() for leaf in self.leaves]
        while row:
            for at in range(0, len(row), 256):
                part = row[at : at + 256]
                self.put(self._tile(str(level), at // 256, len(part)), b"".join(part))
            span = 256 ** (level + 1)
            whole = range(0, size - span + 1, span)
            row = [merkle(self.leaves[at : at + span]) for at in whole]
            level += 1
        note = self.note(size, merkle(self.leaves))
        self.put(self.log / "checkpoints" / str(size), note)
        self.put(self.log / "checkpoint", note)

    def note(self, size: int, root: bytes) -> bytes:
        body = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(self.hash + self.signer.sign(body.encode())).decode()
        return f"{body}\n— {self.origin} {signature}\n".encode()

    def _tile(self, level: str, index: int, width: int) -> Path:
        return self.log / f"tile/{level}/{index:03}{'' if width == 256 else f'.p/{width}'}"


def whole(data: Path, leaves: int = 0) -> Corpus:
    """A stopped log: two sessions over two segments, a policy, several checkpoints."""
    corpus = Corpus(data)
    corpus.policy(b"policy: p\n")
    one, two = corpus.session(), corpus.session()
    corpus.write()
    corpus.segment(0, [(one, "open", b""), (two, "open", b""), (one, "request", b"select 1")])
    corpus.segment(1, [(one, "answer", b"x" * 9000), (two, "close", b""), (one, "close", b"")])
    corpus.close(two)
    corpus.close(one)
    for number in range(leaves):
        corpus.leaf("policy", name=f"p{number}", sha256=sha(b"policy: p\n"))
    corpus.leaf("stop", sessions=2)
    corpus.write()
    return corpus
