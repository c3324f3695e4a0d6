# SPDX-License-Identifier: GPL-3.0-or-later
"""A verdict in words, and progress on a terminal."""

from __future__ import annotations

import json
import time
import unicodedata
from typing import Any, TextIO

from gateway.verify.findings import Findings, Progress

_SHOWN = 20


def counted(number: int, what: str) -> str:
    """As "1 log", "2 logs"."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def _seen(text: str) -> str:
    """Names come from evidence that may be hostile: controls are shown, never obeyed."""
    return "".join(
        c if unicodedata.category(c)[0] not in "CZ" or c == " " else f"\\u{{{ord(c):x}}}"
        for c in text
    )


def in_words(findings: Findings) -> str:
    """The verdict for a person; what is wrong stands first."""
    lines = [_verdict(findings)]
    for defect in findings.defects[:_SHOWN]:
        lines.append(f"  {_seen(defect.object)}: {_seen(defect.detail)} [{defect.kind}]")
    if findings.defect_count > _SHOWN:
        lines.append(f"  ... and {findings.defect_count - _SHOWN} more (-o json lists up to 1000)")
    lines += [f"  unresolved: {_seen(text)}" for text in findings.unresolved[:_SHOWN]]
    lines.append(
        f"checked: {counted(findings.logs, 'log')}, "
        f"{counted(findings.sessions, 'closed session')}, "
        f"{counted(findings.grants, 'closed record')} of grants, "
        f"{counted(findings.frames, 'frame')}, {counted(findings.bytes, 'byte')}; "
        f"content {findings.content}"
    )
    if findings.complete_to and not findings.defect_count:
        witnessed = f"to {findings.witnessed_to}" if findings.witnessed_to else "no"
        lines.append(f"complete to {findings.complete_to}; witnessed: {witnessed}")
    for name, found in (
        ("still open", findings.open),
        ("not shipped yet", findings.pending),
        ("lost with their node", findings.lost),
        ("signed gaps", findings.gaps),
        ("erased", findings.erased),
        ("expired", findings.expired),
    ):
        if found:
            lines.append(f"{name}: {len(found)}")
    if findings.trust == "none":
        lines.append("trust: none. The signatures fit the keys that lie in the evidence itself;")
        lines.append("  with --trust FILE (got elsewhere) a rewritten record would be found too")
    else:
        lines.append("trusted by: " + ", ".join(findings.trusted_by))
    return "\n".join(lines)


def proof_in_words(document: dict[str, Any]) -> str:
    """The verdict over one proof for a person."""
    if document["defects"]:
        (defect,) = document["defects"]
        return f"NOT SOUND: {_seen(defect['object'])}: {_seen(defect['detail'])} [{defect['kind']}]"
    leaf, frame = document["leaf"], document["frame"]
    lines = ["sound" if document["ok"] else "no defect found, but not all could be checked"]
    lines += [f"  unresolved: {_seen(text)}" for text in document["unresolved"]]
    lines.append(
        f"{_seen(document['log'])} holds, as leaf {document['index']} of {document['size']}: "
        f"{_seen(json.dumps(leaf, ensure_ascii=False))}"
    )
    if frame is not None:
        told = json.dumps(frame["meta"], ensure_ascii=False)
        lines.append(f"frame {frame['sequence']} of {frame['session']}, {frame['kind']}, "
                     f"{frame['at']}: {_seen(told)}")  # fmt: skip
    witnessed = document["witnessed_at"]
    lines.append(f"trust: {document['trust']}; witnessed: {witnessed or 'no'}")
    return "\n".join(lines)


def _verdict(findings: Findings) -> str:
    if findings.defect_count:
        return f"NOT SOUND: {counted(findings.defect_count, 'defect')}; the first:"
    return "sound" if findings.exit_code == 0 else "no defect found, but not all could be checked"


def terminal_progress(out: TextIO) -> Progress:
    """One line that is rewritten at most five times a second."""
    last = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.2:
            last = now
            share = 100 * done // total if total else 0
            print(f"\rverifying {share:3d} %, {done >> 20} MiB ", end="", file=out, flush=True)

    return tell
