# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser's child processes: started early, limited, replaced when a text has killed one."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections import OrderedDict
from pathlib import Path

from gateway.policy.languages.sql.analysis import Analysis, from_plain
from gateway.proxy.shapes import shape_of

_ROOT = str(Path(__file__).resolve().parents[2])
_CACHED_TEXT = 16384
_CACHED_CHARACTERS = 8 << 20
"""Of all cached texts together; what is kept of a text is some ten times as large."""
_MOST_TEXT = 1 << 20
_MOST_ANSWER = 64 << 20
_START_SECONDS = 30.0


class Analyst:
    """Analyses texts outside this process, as many at a time as there are children.

    `seconds` bounds one text by the clock; the child bounds it by processor time. Two children,
    so that a text that takes its whole time, or kills its child, makes no other wait for it.
    """

    def __init__(self, seconds: float = 2.0, children: int = 2) -> None:
        self._seconds = seconds
        self._idle = [_Child() for _ in range(children)]
        self._all = tuple(self._idle)
        self._free = asyncio.Semaphore(children)
        self._known: OrderedDict[str, Analysis] = OrderedDict()
        self._size = 0

    async def start(self) -> None:
        """Start the children ahead of the first text."""
        for child in self._all:
            await child.start()

    async def close(self) -> None:
        for child in self._all:
            await child.end()

    async def analyse(self, text: str) -> Analysis:
        """What `text` does. Never raises for a text: a lost child is a `problem`."""
        shape = shape_of(text)
        if (found := self._known.get(text) or self._known.get(shape or text)) is not None:
            return found
        if len(text) > _MOST_TEXT:
            return Analysis(problem="the text is over 1 MiB")
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            return Analysis(problem="the text is not Unicode")
        async with self._free:
            child = self._idle.pop()
            try:
                answer = await child.analyse(raw, self._seconds)
            finally:
                self._idle.append(child)
        if len(text) <= _CACHED_TEXT and not answer.problem:
            self._keep(shape if shape and answer.by_shape else text, answer)
        return answer

    def _keep(self, text: str, answer: Analysis) -> None:
        if text not in self._known:
            self._size += len(text)
        self._known[text] = answer
        while self._size > _CACHED_CHARACTERS:
            oldest, _ = self._known.popitem(last=False)
            self._size -= len(oldest)


class _Child:
    """One child; it is asked one text at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def analyse(self, raw: bytes, seconds: float) -> Analysis:
        try:
            await self.start()
            return await self._ask(raw, seconds)
        except TimeoutError:
            problem = "the analysis took too long"
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            problem = "the analysis was lost"
        except asyncio.CancelledError:
            await self.end()  # its answer would be taken for the next text's
            raise
        await self.end()
        return Analysis(problem=problem)

    async def start(self) -> None:
        """Start it if it does not run. It knows nothing: no environment but where our code is."""
        if self._process is not None and self._process.returncode is None:
            return
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.policy.languages.sql.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": _ROOT, "LC_ALL": "C.UTF-8"},
        )
        await self._ask(b"select 1", _START_SECONDS)  # imports do not count against a text's time

    async def _ask(self, raw: bytes, seconds: float) -> Analysis:
        child = self._process
        if child is None or child.stdin is None or child.stdout is None:
            raise EOFError
        async with asyncio.timeout(seconds):
            child.stdin.write(struct.pack(">I", len(raw)) + raw)
            await child.stdin.drain()
            (size,) = struct.unpack(">I", await child.stdout.readexactly(4))
            if size > _MOST_ANSWER:
                raise ValueError
            return from_plain(json.loads(await child.stdout.readexactly(size)))

    async def end(self) -> None:
        """Kill it."""
        child, self._process = self._process, None
        if child is not None:
            if child.returncode is None:
                child.kill()
            await child.wait()
