# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of its own: runs a command where it sees no process but its own (Linux namespaces).

`python -I _isolated.py COMMAND...`, in the child's environment. Three processes: this one stays
outside and passes signals on, the second is the first of its PID namespace and reaps, the third
is the command. It imports nothing of Trailgate, so that it is quick.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x0002_0000, 0x1000_0000, 0x2000_0000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x4_0000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
OWN_FAILURE = 125
PASSED_ON = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
_libc = ctypes.CDLL(None, use_errno=True)


def main(command: list[str]) -> NoReturn:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})
    user, group = os.geteuid(), os.getegid()
    _checked("unshare", _libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID))
    # The same user inside; without this the kernel calls it nobody (user_namespaces(7)).
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    first = os.fork()
    if first == 0:
        _first(command, mask)
    os._exit(_followed(first))


def _first(command: list[str], mask: set[int | signal.Signals]) -> NoReturn:
    """PID 1 in there: all that is in there ends with it, and it with the one outside."""
    _checked("prctl", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    _checked("prctl", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked("mount", _libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    _checked("mounting /proc", _libc.mount(b"proc", b"/proc", b"proc", flags, None))
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _execute(command)
    os._exit(_followed(child))


def _execute(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        _end(127, f"{command[0]}: not found")
    except OSError as error:
        _end(126, f"{command[0]}: {error.strerror}")


def _followed(child: int) -> int:
    """Pass signals on and reap until that child ends; its exit code as a shell gives it."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if ended:
            continue
        arrived = signal.sigwaitinfo(PASSED_ON | {signal.SIGCHLD})
        # The terminal's own (si_code above 0) went to the whole group.
        if arrived.si_signo != signal.SIGCHLD and arrived.si_code <= 0:
            os.kill(child, arrived.si_signo)


def _checked(what: str, result: int) -> None:
    if result != 0:
        cause = os.strerror(ctypes.get_errno())
        _end(
            OWN_FAILURE,
            f"{what} failed: {cause}\n"
            "next: let this user make user namespaces (sysctl, AppArmor, seccomp), or use"
            " --isolate uid as root",
        )


def _end(code: int, message: str) -> NoReturn:
    os.write(2, f"trailgate: {message}\n".encode(errors="replace"))
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
