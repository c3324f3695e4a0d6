# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for tests: a CA of one's own, and contexts for both ends."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from gateway.certificates import self_made
from gateway.proxy.tls import server_context


@dataclass(frozen=True)
class Authority:
    """A certificate for loopback and `names`, and who trusts it."""

    cert: Path
    key: Path
    ca: Path

    def server(self, alpn: tuple[str, ...] = ("line",)) -> ssl.SSLContext:
        return server_context(self.cert, self.key, alpn)

    def client(self, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def authority(folder: Path, *names: str) -> Authority:
    made = self_made(folder, names)
    assert made.ca_path is not None
    return Authority(made.cert_path, made.key_path, made.ca_path)
