# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in which node's log each session was opened and closed, for the lake's files."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.admin.cli._record_options import RecordOptions
from gateway.admin.cli.output import Failed, visible
from gateway.record.places import Gone, Reach, Unreadable, find_places
from gateway.record.stored_log import StoredLog, stored_logs
from gateway.ship.lake import Origin


class Origins:
    """Reads all logs once. Raises Failed."""

    def __init__(self, options: RecordOptions) -> None:
        self._found: dict[str, Origin] = {}
        self.sizes: dict[str, int] = {}
        """Leaves of each log, as NODE/N, that were read."""
        place: Path | str = options.data or ""
        if not str(place).startswith("s3://"):
            place = Path(place)
        reach = Reach(options.keys, options.endpoint_url, options.region)
        try:
            for log in stored_logs(find_places(place, reach).evidence):
                self._read(log)
        except Unreadable as error:
            raise Failed(visible(str(error)), error.cure) from error
        except (Gone, ValueError, KeyError, TypeError) as error:
            cure = "trailgate verify says what is wrong with this record"
            raise Failed(f"a log is not whole: {visible(str(error))}", cure) from error

    def _read(self, log: StoredLog) -> None:
        name = log.path.removeprefix("log/")
        try:
            size, _ = log.checkpoint()
        except Gone:
            return  # its node has just started
        self.sizes[name] = size
        for index, leaf in enumerate(log.leaves(size)):
            fields = json.loads(leaf)
            kind, session = fields["type"], fields.get("session")
            if kind == "open":
                self._found[session] = Origin(name, index)
            elif kind == "close" and session in self._found:
                opened = self._found[session].opened
                frames, root = int(fields["frames"]), str(fields["root"])
                self._found[session] = Origin(name, opened, index, frames, root)

    def of(self, session: str) -> Origin:
        """Of a session that no leaf is signed of yet: behind the newest log's last leaf."""
        found = self._found.get(session)
        if found is None:
            name = max(self.sizes, default="unknown/0")
            found = Origin(name, self.sizes.get(name, 0))
        return found
