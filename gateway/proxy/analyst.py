# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser's child process: started early, limited, replaced when a text has killed it."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections import OrderedDict
from pathlib import Path

from gateway.policy.languages.sql.analysis import Analysis, from_plain

_ROOT = str(Path(__file__).resolve().parents[2])
_CACHED = 4096
_CACHED_TEXT = 16384
_MOST_TEXT = 1 << 20
_MOST_ANSWER = 64 << 20


class Analyst:
    """Analyses texts, one at a time, outside this process."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._known: OrderedDict[str, Analysis] = OrderedDict()

    async def start(self) -> None:
        """Start the child ahead of the first text."""
        async with self._turn:
            await self._ask("select 1", 10.0)

    async def close(self) -> None:
        async with self._turn:
            await self._end()

    def known(self, text: str) -> Analysis | None:
        """What is in the cache."""
        return self._known.get(text)

    async def analyse(self, text: str) -> Analysis:
        """What `text` does. Never raises for a text: a lost child is a `problem`."""
        if (found := self._known.get(text)) is not None:
            return found
        if len(text) > _MOST_TEXT:
            return Analysis(problem="the text is over 1 MiB")
        async with self._turn:
            answer = await self._guarded(text)
        if len(text) <= _CACHED_TEXT and not answer.problem:
            self._known[text] = answer
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        return answer

    async def _guarded(self, text: str) -> Analysis:
        if self._child is None:
            await self._start_child()
        try:
            return await self._ask(text, self._seconds)
        except TimeoutError:
            problem = "the analysis took too long"
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            problem = "the analysis was lost"
        except asyncio.CancelledError:
            await self._end()  # its answer would be taken for the next text's
            raise
        await self._end()
        return Analysis(problem=problem)

    async def _start_child(self) -> None:
        """A child that knows nothing: no environment but where our code is."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.policy.languages.sql.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": _ROOT, "LC_ALL": "C.UTF-8"},
        )
        self._child = child
        await self._ask("select 1", 10.0)  # its imports do not count against a text's second

    async def _ask(self, text: str, seconds: float) -> Analysis:
        if self._child is None:
            await self._start_child()
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise EOFError
        raw = text.encode("utf-8", "replace")
        async with asyncio.timeout(seconds):
            child.stdin.write(struct.pack(">I", len(raw)) + raw)
            await child.stdin.drain()
            (size,) = struct.unpack(">I", await child.stdout.readexactly(4))
            if size > _MOST_ANSWER:
                raise ValueError
            return from_plain(json.loads(await child.stdout.readexactly(size)))

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            if child.returncode is None:
                child.kill()
            await child.wait()
