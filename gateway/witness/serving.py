# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness over HTTP, and once over checkpoint files."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gateway.verify.findings import CannotCheck
from gateway.verify.log import LogReader, LogReading
from gateway.verify.note import NoteError, own_checkpoint, parse_note
from gateway.verify.source import FolderSource
from gateway.verify.trust import Trust
from gateway.witness.keeper import MOST_REQUEST, Answer, Witness

log = logging.getLogger("trailgate.witness")
_REQUEST_SECONDS = 10.0
_MOST_LINKS = 64


class WitnessServer(ThreadingHTTPServer):
    """Serves `POST /add-checkpoint`, `POST /add-key` and `GET /<hash of origin>/checkpoint`.

    TLS, where links leave the machine, is a front's business.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], witness: Witness) -> None:
        self.witness = witness
        self._links = threading.BoundedSemaphore(_MOST_LINKS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._links.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._links.release()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "trailgate-witness"
    sys_version = ""
    timeout = _REQUEST_SECONDS
    server: WitnessServer

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        witness = self.server.witness
        calls = {"/add-checkpoint": witness.add_checkpoint, "/add-key": witness.add_key}
        if self.path not in calls:
            self._answer(Answer(404, b"POST /add-checkpoint\n"), close=True)
        elif not length.isdecimal() or not 0 < int(length[:9]) <= MOST_REQUEST:
            self._answer(Answer(413, b"a request has at most 64 KiB\n"), close=True)
        else:
            request = self.rfile.read(int(length))
            self._do(lambda: calls[self.path](request))

    def do_GET(self) -> None:
        found = re.fullmatch(r"/([0-9a-f]{64})/checkpoint", self.path)
        if found is None:
            self._answer(Answer(404, b"GET /<SHA-256 of the origin>/checkpoint\n"), close=True)
        else:
            self._do(lambda: self.server.witness.latest(found[1]))

    def _do(self, call: Callable[[], Answer]) -> None:
        try:
            answer = call()
        except (OSError, NoteError) as error:
            log.error("the witness's folder failed", extra={"cause": str(error)})
            answer = Answer(500, b"the witness's folder failed\n")
        self._answer(answer)

    def _answer(self, answer: Answer, close: bool = False) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if close:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        log.info("request", extra={"peer": self.client_address[0], "line": format % args})


def cosign_file(witness: Witness, trust: Trust, path: Path) -> bytes:
    """The cosigned checkpoint of `EVIDENCE/log/NODE/N/checkpoint`, its log read from beside it.

    All entries are read: that is more than a consistency proof shows. Raises CannotCheck with what
    is wrong; then nothing was cosigned.
    """
    folder = path.resolve().parent
    if path.name != "checkpoint" or folder.parents[1].name != "log":
        raise CannotCheck(f"{path}: name the file EVIDENCE/log/NODE/N/checkpoint")
    source, below = FolderSource(folder.parents[2]), "/".join(folder.parts[-3:])
    names = [name for name in source.names() if name.startswith(below + "/")]
    try:
        data = path.read_bytes()[:MOST_REQUEST]
        note = parse_note(data)
        origin = note.body.split(b"\n", 1)[0].decode()
        # Whoever else cosigned is no matter here.
        own = Trust(logs=trust.logs, keys=trust.keys, roots=trust.roots)
        reading = LogReader(source, below, names, own, [data, *trust.seen]).read()
        key = reading.chain.of_note(data) if reading.chain else None
        if key is None or (origin not in trust.logs and not _takes_in(witness, reading)):
            raise NoteError(f"is of {origin}, which this witness does not serve")
        checkpoint = own_checkpoint(note, key)
    except (OSError, NoteError) as error:
        raise CannotCheck(f"{path}: {error}") from error
    wrong = [f"{one.object}: {one.detail}" for one in reading.defects] + reading.forks
    if reading.ahead > checkpoint.size:
        wrong.append(f"has {checkpoint.size} leaves, and this witness saw {reading.ahead}")
    if wrong or not reading.sound:
        raise CannotCheck(f"{path}: not cosigned: {'; '.join(wrong) or 'it has no entries'}")
    for rotation in reading.chain.leaves.values() if reading.chain else ():
        witness.add_key(rotation)
    return data + witness.cosign(note, key)


def _takes_in(witness: Witness, reading: LogReading) -> bool:
    """Whether one of the log's certificates is of a root that the witness knows."""
    answers = [witness.add_key(text.encode()) for text in reading.history.certificates]
    return any(answer.status == 200 for answer in answers)
