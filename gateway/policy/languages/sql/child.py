# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser's process: length-prefixed texts on standard input, analyses on standard output."""

from __future__ import annotations

import json
import resource
import struct
import sys

from gateway.policy.languages.sql.analysis import Analysis, to_plain
from gateway.policy.languages.sql.parse import analyse

_MEMORY = 1 << 30


def serve() -> None:
    """Answer until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(4)) == 4:
        text = source.read(struct.unpack(">I", head)[0]).decode("utf-8", "replace")
        answer = json.dumps(to_plain(_analyse(text))).encode()
        sink.write(struct.pack(">I", len(answer)) + answer)
        sink.flush()


def _analyse(text: str) -> Analysis:
    try:
        return analyse(text)
    except (RecursionError, MemoryError):
        return Analysis(problem="the text is nested too deeply")
    except Exception as exc:  # whatever the parser's wrapper raises: the text is denied
        return Analysis(problem=f"the text could not be analysed ({type(exc).__name__})")


if __name__ == "__main__":
    serve()
