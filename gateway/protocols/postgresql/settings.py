# SPDX-License-Identifier: GPL-3.0-or-later
"""The session settings that change what a statement's text means, and decoding that text.

Known from ParameterStatus (the truth at each ReadyForQuery) and from what allowed statements
declare.
"""

from __future__ import annotations

from collections.abc import Iterable

TRACKED = (
    "client_encoding",
    "role",
    "search_path",
    "session_authorization",
    "standard_conforming_strings",
)

# PostgreSQL documentation, table 24.1. SQL_ASCII converts nothing, so it is read as UTF-8 and a
# text that is not is not understood. EUC_JIS_2004, EUC_TW, JOHAB and MULE_INTERNAL have no codec
# that agrees with PostgreSQL's: their texts are not understood, which denies them.
_CODECS = {
    "UTF8": "utf-8",
    "UNICODE": "utf-8",
    "SQLASCII": "utf-8",
    "LATIN1": "iso8859-1",
    "LATIN2": "iso8859-2",
    "LATIN3": "iso8859-3",
    "LATIN4": "iso8859-4",
    "LATIN5": "iso8859-9",
    "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13",
    "LATIN8": "iso8859-14",
    "LATIN9": "iso8859-15",
    "LATIN10": "iso8859-16",
    "ISO88595": "iso8859-5",
    "ISO88596": "iso8859-6",
    "ISO88597": "iso8859-7",
    "ISO88598": "iso8859-8",
    "KOI8R": "koi8-r",
    "KOI8": "koi8-r",
    "KOI8U": "koi8-u",
    "WIN866": "cp866",
    "WIN874": "cp874",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "WIN1253": "cp1253",
    "WIN1254": "cp1254",
    "WIN1255": "cp1255",
    "WIN1256": "cp1256",
    "WIN1257": "cp1257",
    "WIN1258": "cp1258",
    "SJIS": "cp932",
    "SHIFTJIS": "cp932",
    "EUCJP": "euc_jp",
    "EUCCN": "gb2312",
    "EUCKR": "euc_kr",
    "BIG5": "big5",
    "GBK": "gbk",
    "GB18030": "gb18030",
    "UHC": "cp949",
}


def codec_of(encoding: str) -> str | None:
    """Python's codec for an encoding as PostgreSQL spells it (case and punctuation are free)."""
    return _CODECS.get("".join(c for c in encoding.upper() if c.isalnum()))


class Settings:
    """Tracked settings of one session. A value of '' means: set, but to what is not known."""

    __slots__ = ("_before", "_declared", "_reported", "codec", "key", "plain_backslash")

    key: tuple[tuple[str, str], ...]
    """What `Operation.settings` carries; the same object until something changes."""
    codec: str | None
    plain_backslash: bool
    """True when a backslash in a string is only a backslash (standard_conforming_strings)."""

    def __init__(self, parameters: Iterable[tuple[str, str]]) -> None:
        self._reported = dict(parameters)
        self._declared: dict[str, str] = {}
        self._before: dict[str, str | None] = {}
        self._refresh()

    def get(self, name: str) -> str | None:
        """The value in force; None where it is not known."""
        return self._declared.get(name, self._reported.get(name)) or None

    def report(self, name: str, value: str) -> None:
        """ParameterStatus: the truth, whatever was declared before."""
        self._reported[name] = value
        self._declared.pop(name, None)
        if name in TRACKED:
            self._refresh()

    def reported(self, name: str) -> bool:
        return name in self._reported

    def declare(self, name: str, value: str) -> None:
        """An operation that set `name` succeeded; provisional until its batch is settled."""
        self._before.setdefault(name, self._declared.get(name))
        self._declared[name] = value
        self._refresh()

    def settled(self, state: str, *, restored: bool, doubtful: bool) -> None:
        """A batch ended. `restored`: what it declared is surely rolled back; `doubtful`: it may be.

        Servers from 14 on report changed parameters just before ReadyForQuery, so what is reported
        needs no guess. Of the others, COMMIT keeps a SET but drops a SET LOCAL and ROLLBACK TO may
        restore: where that cannot be told from outside, the value is then unknown.
        """
        if not self._declared and not self._before:
            return
        for name in [name for name in self._declared if name in self._reported]:
            del self._declared[name]
            self._before.pop(name, None)
        if state == "I" or doubtful:
            for name, before in self._before.items():
                self._end(name, before, restored, doubtful)
            self._before.clear()
        self._refresh()

    def _end(self, name: str, before: str | None, restored: bool, doubtful: bool) -> None:
        if restored and before is None:
            self._declared.pop(name, None)
        elif restored and before is not None:
            self._declared[name] = before
        elif doubtful and self._declared.get(name) != before:
            self._declared[name] = ""

    def discard(self) -> None:
        """DISCARD ALL: every setting is again what it was when the session began."""
        self._declared.clear()
        self._before.clear()
        self._refresh()

    def decode(self, raw: bytes) -> tuple[str | None, str]:
        """The text as policy may read it, or None and why it cannot be read without doubt."""
        if not self.plain_backslash and b"\\" in raw:
            return None, "standard_conforming_strings is not on and the text holds a backslash"
        if self.codec is None:
            return None, f"client_encoding {self.get('client_encoding')} is not understood"
        try:
            return raw.decode(self.codec), ""
        except UnicodeDecodeError:
            return None, f"the text is not valid {self.get('client_encoding')}"

    def _refresh(self) -> None:
        merged = {**self._reported, **self._declared}
        self.key = tuple((name, merged[name]) for name in TRACKED if name in merged)
        self.codec = codec_of(merged.get("client_encoding", ""))
        self.plain_backslash = merged.get("standard_conforming_strings", "").lower() in _ON


_ON = ("on", "true", "yes", "1")
