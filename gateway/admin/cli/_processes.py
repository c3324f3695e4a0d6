# SPDX-License-Identifier: GPL-3.0-or-later
"""A child process that gets our signals, and whose end is ours."""

from __future__ import annotations

import ctypes
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

PASSED_ON = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
PR_SET_NO_NEW_PRIVS = 38
Mask = set[int | signal.Signals]


def say(message: str) -> None:
    click.echo(f"trailgate: {message}", err=True)


@contextmanager
def signals_held() -> Iterator[Mask]:
    """Signals wait for `followed`; gives the mask of before, which the child gets.

    To be entered before any thread starts, so that each inherits it and sigwaitinfo gets them all.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children would vanish unannounced
    before: Any = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def spawned(
    command: Sequence[str], env: Mapping[str, str], mask: Mask, **more: Any
) -> subprocess.Popen[bytes]:
    """Start it; SystemExit with 127 or 126 as a shell has it where it cannot be.

    Another user's process (`user=`) gains no privileges by what it executes (PR_SET_NO_NEW_PRIVS).
    """
    libc = ctypes.CDLL(None) if more.get("user") is not None else None

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if libc is not None and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError

    try:
        return subprocess.Popen(command, env=env, preexec_fn=unblock, **more)
    except FileNotFoundError:
        _exit(127, f"{command[0]}: not found")
    except OSError as error:
        _exit(126, f"{command[0]}: {error.strerror}")


def _exit(code: int, message: str) -> NoReturn:
    say(message)
    raise SystemExit(code)


def followed(child: subprocess.Popen[bytes]) -> int:
    """Pass signals on until the child ends; its exit code as a shell gives it."""
    while child.poll() is None:
        arrived = signal.sigwaitinfo(PASSED_ON | {signal.SIGCHLD})
        # What the terminal sends (si_code above 0) went to the whole group: the child has it.
        if arrived.si_signo != signal.SIGCHLD and arrived.si_code <= 0:
            child.send_signal(arrived.si_signo)
    code = child.returncode
    return code if code >= 0 else 128 - code
