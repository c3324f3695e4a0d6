# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's transit engine at its HTTP edge, for machines without a Vault: encrypt and decrypt of
AEAD keys with versions, associated data, tokens and namespaces, and its own form of errors."""

from __future__ import annotations

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Refusal(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class TransitServer:
    def __init__(self, token: str, keys: list[str], mount: str = "transit") -> None:
        self.token = token
        self.mount = mount
        self.keys = {name: [os.urandom(32)] for name in keys}
        self.calls: list[dict[str, Any]] = []
        self.instead: tuple[int, bytes] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rotate(self, name: str) -> None:
        self.keys[name].append(os.urandom(32))

    def answer(self, path: str, token: str, body: dict[str, str]) -> dict[str, str]:
        if token != self.token:
            raise Refusal(403, "permission denied")
        parts = path.strip("/").split("/")
        if len(parts) != 4 or parts[:2] != ["v1", self.mount] or parts[3] not in self.keys:
            raise Refusal(400, "encryption key not found")
        versions, aad = self.keys[parts[3]], base64.b64decode(body.get("associated_data", ""))
        if parts[2] == "encrypt":
            nonce = os.urandom(12)
            data = AESGCM(versions[-1]).encrypt(nonce, base64.b64decode(body["plaintext"]), aad)
            text = base64.b64encode(nonce + data).decode()
            return {"ciphertext": f"vault:v{len(versions)}:{text}"}
        _, version, text = body["ciphertext"].split(":")
        data = base64.b64decode(text)
        try:
            key = AESGCM(versions[int(version[1:]) - 1])
            return {"plaintext": base64.b64encode(key.decrypt(data[:12], data[12:], aad)).decode()}
        except InvalidTag:
            raise Refusal(400, "cipher: message authentication failed") from None

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.calls.append({"namespace": self.headers.get("x-vault-namespace")})
                status, content = 200, b""
                try:
                    token = self.headers.get("x-vault-token", "")
                    content = json.dumps({"data": server.answer(self.path, token, body)}).encode()
                except Refusal as refusal:
                    status = refusal.status
                    content = json.dumps({"errors": [str(refusal)]}).encode()
                status, content = server.instead or (status, content)
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        return Handler
