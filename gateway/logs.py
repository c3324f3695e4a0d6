# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs: one JSON object a line on standard error, with what was passed as `extra`; no secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# The forms in which a secret could slip into a message: our own handles, JWTs, passwords in URLs.
_SECRETS = re.compile(
    r"tg_[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
)


def without_secrets(text: str) -> str:
    """The text with whatever looks like a token or a URL's password taken out."""
    return _SECRETS.sub("***", text)


class JsonLines(logging.Formatter):
    """time, level, logger, message, the record's extra fields, and an exception's traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        for key, value in vars(record).items():
            if key not in _OWN:
                line[key] = without_secrets(value) if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(
            line, ensure_ascii=False, default=lambda value: without_secrets(str(value))
        )


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send every logger of the process to one stream, a JSON object a line."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "botocore", "urllib3", "uvicorn", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
