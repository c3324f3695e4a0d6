# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 heads that two readers may take for different requests are refused (RFC 9112).

h11 reads some of them as the RFC allows. A proxy before the gateway may read them otherwise, and
then one request hides another.
"""

from __future__ import annotations

import re
from typing import Any

import h11

HEAD_CAP = 32 * 1024
"""Bytes of a request line and its headers."""
_BLANK = re.compile(rb"\n\r?\n")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
_FOLDED = re.compile(rb"\r\n[ \t]")


class StrictHttp(h11.Connection):
    """h11 on the server's side, without its tolerance."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_CAP)
        self._has_line = False

    def receive_data(self, data: bytes) -> None:
        self._has_line = self._has_line or b"\n" in data
        super().receive_data(data)

    def next_event(self) -> Any:
        """As h11's. Raises RemoteProtocolError, which is answered 400 and ends the link."""
        if self._has_line and self.their_state is h11.IDLE:
            _check_lines(self.trailing_data[0])
        event = super().next_event()
        if event is h11.NEED_DATA:
            self._has_line = False
        elif isinstance(event, h11.Request):
            _check_framing(event)
        return event


def _check_lines(head: bytes) -> None:
    """RFC 9112 2.2, 5.2: every line ends in CR LF, and none is folded."""
    end = _BLANK.search(head)
    head = head[: end.end()] if end else head.rstrip(b"\r")
    if _BARE.search(head):
        raise h11.RemoteProtocolError("a line does not end in CR LF")
    if _FOLDED.search(head):
        raise h11.RemoteProtocolError("a header is folded")


def _check_framing(request: h11.Request) -> None:
    """RFC 9112 6.1, 6.3: one length, told in one way."""
    names = [name for name, _ in request.headers]
    coded, sized = names.count(b"transfer-encoding"), names.count(b"content-length")
    if coded and (sized or request.http_version < b"1.1"):
        raise h11.RemoteProtocolError("a body of two lengths")
