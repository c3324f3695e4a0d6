# SPDX-License-Identifier: GPL-3.0-or-later
"""How this part says no: a safe reason for the client, the cause for the log, never a token."""

from __future__ import annotations

from gateway.model import RecordFailed, Refusal, Refused, Use

SHOWN = 120


def refused(reason: str, cause: str = "", *, code: str = "bad_token") -> Refused:
    """A denied login. `cause` is for the log only; the client is told `reason`."""
    return Refused(Refusal("denied", code, reason), cause or reason)


def unavailable(reason: str, cause: str) -> Refused:
    """The token may be good, but cannot be checked now: a refusal all the same."""
    return Refused(Refusal("unavailable", "bad_token", reason), cause)


def unrecorded(error: RecordFailed) -> Refused:
    """What cannot be recorded is not given."""
    reason = "the record cannot be written"
    return Refused(Refusal("unavailable", "record", reason), str(error))


def check_first_use(use: Use, what: str, whose: str) -> None:
    """Of something that is good once. Raises Refused."""
    if use == "again":
        raise refused(f"{what} was used before: get a new one", f"{whose}: replay")
    if use == "full":
        reason = f"{what} cannot be taken now: too many are in use; try again in a few minutes"
        raise unavailable(reason, f"{whose}: no room to note one more")


def shown(value: object) -> str:
    """Outside text for a log line: printable ASCII, of bounded length."""
    text = ascii(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
