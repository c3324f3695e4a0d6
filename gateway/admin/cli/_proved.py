# SPDX-License-Identifier: GPL-3.0-or-later
"""Up to when the evidence is proved: the verifier's word, kept until the evidence changes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.admin.cli._record_options import RecordOptions
from gateway.admin.cli.output import Failed, visible
from gateway.record.places import Gone, Place, Reach, Unreadable, find_places
from gateway.verify.findings import CannotCheck
from gateway.verify.run import Request, verify
from gateway.verify.trust import MOST_FILE

_MOST_NOTE = 65536
_KEPT = 64
"""Verdicts that are kept in the cache folder."""


@dataclass(frozen=True, slots=True)
class Proved:
    """`to`: up to then everything is there and unchanged; None where the evidence has a defect.

    `holes`: what is missing up to then, for people.
    """

    to: str | None
    holes: tuple[str, ...]

    def demand(self, newest: str | None) -> None:
        """Raise Failed with exit code 1 where the answer, up to `newest`, is not all proved."""
        cure = "trailgate verify says what is wrong"
        if self.to is None:
            raise Failed("nothing is proved: the evidence has a defect", cure, 1)
        if self.holes:
            raise Failed(f"the evidence has a hole: {visible(self.holes[0])}", cure, 1)
        if newest is not None and newest > self.to:
            cure = "ask again once the gateway has signed it"
            raise Failed(f"proved to {self.to} only, and the answer goes on to {newest}", cure, 1)


def proved(options: RecordOptions) -> Proved:
    """Verify, or take the verdict over these very checkpoints and files from the cache.

    Raises Failed.
    """
    key = _state(options)
    kept = _kept(key)
    if kept is not None:
        return kept
    request = Request(
        path=options.data or "",
        keys=options.keys,
        endpoint_url=options.endpoint_url,
        region=options.region,
        trust=Path(options.trust) if options.trust else None,
        as_of=options.as_of,
    )
    try:
        document = verify(request).document()
    except CannotCheck as error:
        raise Failed(visible(str(error)), error.cure or _cure(options)) from error
    found = Proved(document["complete_to"] if not document["defects"] else None,
                   tuple(_holes(document)))  # fmt: skip
    # A live gateway adds to it meanwhile: then the verdict is of neither state.
    if key == _state(options):
        _keep(key, found)
    return found


def _cure(options: RecordOptions) -> str:
    if options.trust is None and options.as_of is None:
        return "name the evidence with --data"
    return "name the evidence with --data, --trust and --as-of as trailgate verify takes them"


def _holes(document: dict[str, Any]) -> Iterator[str]:
    for name, what in (("lost", "lost with its node"), ("gaps", "a signed gap"),
                       ("unresolved", "unresolved")):  # fmt: skip
        for one in document[name]:
            yield f"{what}: {one if isinstance(one, str) else json.dumps(one)}"


def _state(options: RecordOptions) -> str:
    """What a verdict depends on: every checkpoint, and name, size and time of each file."""
    place: Path | str = options.data or ""
    if not str(place).startswith("s3://"):
        place = Path(place)
    reach = Reach(options.keys, options.endpoint_url, options.region)
    told = hashlib.sha256(f"{place} {options.keys} {options.endpoint_url}".encode())
    for part in _trusted(options):
        told.update(hashlib.sha256(part).digest())
    try:
        places = find_places(place, reach)
        for one in (places.evidence, *places.keys):
            for name, size in sorted(one.names("").items()):
                told.update(f"{name} {size} {_changed(one, name)}\n".encode())
                if name.endswith("/checkpoint"):
                    told.update(one.read(name, 0, _MOST_NOTE))
    except (Unreadable, Gone) as error:
        raise Failed(visible(str(error)), getattr(error, "cure", "")) from error
    return told.hexdigest()


def _trusted(options: RecordOptions) -> Iterator[bytes]:
    """All of the trust file or folder; and the time, at which a log may have grown silent."""
    if options.as_of is not None or options.trust is not None:
        yield (options.as_of or f"minute {time.time() // 60}").encode()
    if options.trust is None:
        return
    trust = Path(options.trust)
    inside = sorted(trust.rglob("*")) if trust.is_dir() else [trust]
    try:
        for path in inside:
            if path.is_file():
                yield str(path).encode()
                with path.open("rb") as file:
                    yield file.read(MOST_FILE + 1)
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}", "name another --trust") from error


def _changed(place: Place, name: str) -> str:
    try:
        told = os.stat(os.path.join(place.shown, name))
    except OSError:
        return ""
    return f"{told.st_mtime_ns} {told.st_ctime_ns}"


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "trailgate" / "proved"


def _kept(key: str) -> Proved | None:
    try:
        told = json.loads((_folder() / f"{key}.json").read_text("utf-8"))
        return Proved(told["to"], tuple(told["holes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(key: str, found: Proved) -> None:
    """In the user's own cache folder; without one, the next answer verifies again."""
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        old = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in old[: max(0, len(old) - _KEPT + 1)]:
            path.unlink(missing_ok=True)
        unfinished = folder / f".{key}.{os.getpid()}"
        unfinished.write_text(json.dumps({"to": found.to, "holes": list(found.holes)[:100]}))
        os.rename(unfinished, folder / f"{key}.json")
    except OSError:
        return
