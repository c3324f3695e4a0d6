# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a statement: its text with each constant replaced, for caches.

libpg_query's normalisation keeps every name, operator and comment, unlike its fingerprint, under
which `SET ROLE a` and `SET ROLE b`, or lists of other columns, are one. It is safe in this process:
it fails cleanly on deep input, and longer texts are not asked about.
"""

from __future__ import annotations

import re

from pglast.parser import ParseError, normalize

MOST_TEXT = 16384
"""Characters."""
_LIMIT = re.compile(r"limit|fetch", re.I)
_NULL = re.compile("null", re.I)


def shape_of(text: str) -> str | None:
    """The shape, beginning with NUL so that it is no text; None where there is none.

    LIMIT NULL is no limit, and NULL a constant like any other here: such texts have no shape.
    """
    if len(text) > MOST_TEXT or (_NULL.search(text) and _LIMIT.search(text)):
        return None
    try:
        return "\0" + str(normalize(text))
    except (ParseError, ValueError, UnicodeError):
        return None
