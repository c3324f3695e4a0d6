# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit export`: the record in forms that other tools read unchanged.

Each format is a module of this folder with `export(wanted)`; FORMATS names them all.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from gateway.admin.cli._record_options import RecordOptions, record_options
from gateway.admin.cli.options import identity_option
from gateway.admin.cli.output import Failed

FORMATS: Mapping[str, str] = {
    "asciicast": "exporting",
    "jsonl": "exporting",
    "ocsf": "exporting",
    "tlog-proof": "tlog_proof",
}
"""Format to the module that writes it; imported only when it is asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export, out of which record, and where to."""

    what: str | None
    """SESSION or SESSION:FRAME, as the caller wrote it; None: everything."""
    options: RecordOptions
    out: BinaryIO
    format: str = "tlog-proof"
    identity: Path | None = None
    """The key that opens content; None: that of the data folder, if there is one."""

    def session(self) -> str:
        """The session that a format of single sessions needs. Raises Failed."""
        if self.what is None:
            raise Failed("which session?", "trailgate sessions list shows them")
        return self.what


@click.command(
    epilog="""\b
Examples:
  trailgate audit export --format tlog-proof kq3v --data ./data --out kq3v.tlog-proof
  trailgate audit export --format tlog-proof kq3v:7 --data ./data
  trailgate audit export --format asciicast kq3v --data ./data --out kq3v.cast
  trailgate audit export --format ocsf --data s3://evidence/prod > events.jsonl"""
)
@click.argument("session", required=False, metavar="[SESSION[:FRAME]]")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), required=True, help="Which.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: stdout.")
@identity_option
@record_options
def export(
    session: str | None,
    format_: str,
    out: Path | None,
    identity: Path | None,
    **place: str | None,
) -> None:
    """Write SESSION in a form that other tools read. The start of an id is enough.

    asciicast: the SESSION as a terminal, with its timing (asciicast v2). jsonl: sessions and their
    operations, a document a line; ocsf: events of OCSF 1.8, one a line, with full statements where
    --identity is given. Both of SESSION or of all.

    tlog-proof: that the log holds the session, or its frame number FRAME (from 0), as C2SP
    tlog-proof has it; `trailgate verify --proof FILE` checks it without the record.

    Exit codes: 0 done, 2 no such session, or the record could not be read.
    """
    with _opened(out) as stream:
        _writer(format_)(Wanted(session, RecordOptions(**place), stream, format_, identity))


def _writer(name: str) -> Callable[[Wanted], None]:
    module = importlib.import_module(f"{__package__}.{FORMATS[name]}")
    writer: Callable[[Wanted], None] = module.export
    return writer


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """The file, whole or not at all; standard output where none is named. Raises Failed."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        with unfinished.open("wb") as stream:
            yield stream
        os.rename(unfinished, path)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror or error}", "write to another --out") from error
    finally:
        unfinished.unlink(missing_ok=True)
