# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser's process: length-prefixed texts on standard input, analyses on standard output."""

from __future__ import annotations

import json
import resource
import struct
import sys

from gateway.policy.languages.sql.analysis import Analysis, to_plain
from gateway.policy.languages.sql.parse import MOST_TEXT, analyse

_MEMORY = 1 << 30
_SECONDS = 2
"""Of processor time a text, rounded up by the kernel: over it the process is killed."""
_MOST_ANSWER = 16 << 20


def serve() -> None:
    """Answer until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(4)) == 4:
        (size,) = struct.unpack(">I", head)
        if size > 4 * MOST_TEXT:
            return
        _limit_processor()
        answer = _answer(source.read(size))
        sink.write(struct.pack(">I", len(answer)) + answer)
        sink.flush()


def _limit_processor() -> None:
    """RLIMIT_CPU counts from the process's start, so that it is moved on for each text."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (used + _SECONDS, hard))


def _answer(raw: bytes) -> bytes:
    answer = json.dumps(to_plain(_analyse(raw))).encode()
    if len(answer) > _MOST_ANSWER:
        answer = json.dumps(to_plain(Analysis(problem="the text does too much"))).encode()
    return answer


def _analyse(raw: bytes) -> Analysis:
    try:
        return analyse(raw.decode())
    except (RecursionError, MemoryError):
        return Analysis(problem="the text is nested too deeply")
    except Exception as exc:  # whatever the parser's wrapper raises: the text is denied
        return Analysis(problem=f"the text could not be analysed ({type(exc).__name__})")


if __name__ == "__main__":
    serve()
