# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's own log, read again: stderr with `log_line_prefix`, csvlog, and jsonlog.

What it tells is the server's word, in the words of `lc_messages = C`. Texts are cut, never dropped:
an entry of any length is an entry.
"""

from __future__ import annotations

from gateway.protocols.postgresql.server_log.entries import BadLog, Entry, Kind
from gateway.protocols.postgresql.server_log.lines import MOST_ENTRY, Lines
from gateway.protocols.postgresql.server_log.prefix import Prefix
from gateway.protocols.postgresql.server_log.reading import entries_of

__all__ = ["MOST_ENTRY", "BadLog", "Entry", "Kind", "Lines", "Prefix", "entries_of"]
