# SPDX-License-Identifier: GPL-3.0-or-later
"""`log_line_prefix` read backwards: from the setting to what a line of stderr begins with."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.protocols.postgresql.server_log.entries import BadLog

_ESCAPE = re.compile(r"%(-?\d+)?([a-zA-Z%])")
_PIDS = "pc"
_SHAPES = {
    "a": r".*?", "u": r".*?", "d": r".*?", "b": r"[\w /-]+?", "i": r"[\w ]*?", "e": r"[0-9A-Z]{5}",
    "r": r"(?:\[local\]|[^\s()]+(?:\(\d+\))?)?", "h": r"(?:\[local\]|[^\s()]+)?",
    "p": r"\d+", "P": r"\d*", "l": r"\d+", "Q": r"-?\d+", "x": r"\d+", "v": r"[\d/-]*",
    "c": r"[0-9a-f]+\.[0-9a-f]+", "n": r"\d+\.\d+",
    "t": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+", "s": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+",
    "m": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+",
}  # fmt: skip
_SEVERITY = (
    r"(?P<severity>DEBUG[1-5]?|INFO|NOTICE|WARNING|ERROR|LOG|FATAL|PANIC|DETAIL|HINT|QUERY|CONTEXT"
    r"|LOCATION|BACKTRACE|STATEMENT):  (?P<message>.*)"
)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A compiled `log_line_prefix`. `parse` makes it."""

    pattern: re.Pattern[str]

    @classmethod
    def parse(cls, setting: str) -> Prefix:
        """Raises BadLog where it does not tell the time and the process."""
        names = {found[2] for found in _ESCAPE.finditer(setting)}
        if not names & set("mtn") or not names & set(_PIDS):
            raise BadLog("the prefix must tell the time (%m, %t or %n) and the process (%p or %c)")
        before, stop, behind = _cut_at_stop(setting)
        pattern = _pattern(before, set())
        if stop:
            seen = {found[2] for found in _ESCAPE.finditer(before)}
            pattern += f"(?:{_pattern(behind, seen)})?"
        return cls(re.compile(pattern + _SEVERITY, re.DOTALL))

    def fields(self, line: str) -> dict[str, str] | None:
        """The values by their letter, `severity` and `message`; None: the line begins no entry."""
        found = self.pattern.fullmatch(line)
        if found is None:
            return None
        told = {name: value for name, value in found.groupdict().items() if value}
        return {name: one if name == "message" else one.strip() for name, one in told.items()}


def _cut_at_stop(setting: str) -> tuple[str, bool, str]:
    """Around %q, behind which only sessions' lines go on."""
    for found in _ESCAPE.finditer(setting):
        if found[2] == "q":
            return setting[: found.start()], True, setting[found.end() :]
    return setting, False, ""


def _pattern(setting: str, seen: set[str]) -> str:
    parts, at = [], 0
    for found in _ESCAPE.finditer(setting):
        parts.append(re.escape(setting[at : found.start()]))
        at = found.end()
        parts.append(_one(found[2], bool(found[1]), seen))
    parts.append(re.escape(setting[at:]))
    return "".join(parts)


def _one(letter: str, padded: bool, seen: set[str]) -> str:
    if letter == "%":
        return "%"
    if letter == "q":
        return ""
    shape = _SHAPES.get(letter)
    if shape is None:
        raise BadLog(f"%{letter} is no escape of log_line_prefix")
    space = " *" if padded else ""
    if letter in seen:
        return f"{space}{shape}{space}"
    seen.add(letter)
    return f"{space}(?P<{letter}>{shape}){space}"
