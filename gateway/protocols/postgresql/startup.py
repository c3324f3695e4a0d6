# SPDX-License-Identifier: GPL-3.0-or-later
"""The start-up packet: parsing it, and the allow list of what it may set at a target.

Whatever stands here runs with the gateway's credential before policy saw a statement
(PgBouncer CVE-2025-12819), so that what is not listed is refused, never dropped or passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PACKET_LIMIT = 10_000
"""Longest start-up packet in bytes, the server's own cap (MAX_STARTUP_PACKET_LENGTH)."""

_ALLOWED = frozenset(
    """
    array_nulls bytea_output check_function_bodies client_connection_check_interval client_encoding
    client_min_messages constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost
    cursor_tuple_fraction datestyle default_statistics_target
    default_text_search_config default_transaction_deferrable default_transaction_isolation
    default_transaction_read_only effective_cache_size effective_io_concurrency
    extra_float_digits from_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size
    geqo_seed geqo_selection_bias geqo_threshold gin_fuzzy_search_limit gin_pending_list_limit
    hash_mem_multiplier idle_in_transaction_session_timeout idle_session_timeout intervalstyle jit
    jit_above_cost jit_inline_above_cost jit_optimize_above_cost join_collapse_limit lc_monetary
    lc_numeric lc_time lock_timeout maintenance_work_mem
    max_parallel_maintenance_workers max_parallel_workers max_parallel_workers_per_gather
    min_parallel_index_scan_size min_parallel_table_scan_size parallel_leader_participation
    parallel_setup_cost parallel_tuple_cost plan_cache_mode quote_all_identifiers random_page_cost
    recursive_worktable_factor row_security search_path seq_page_cost statement_timeout
    synchronous_commit tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval
    tcp_user_timeout temp_buffers timezone timezone_abbreviations
    transaction_timeout work_mem xmlbinary xmloption
    """.split()
)
_PLANNER_SWITCH = re.compile(r"enable_[a-z_]{1,40}")
_SET_INSTEAD = frozenset({"role", "session_authorization"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")
_WAIT = re.compile(r"[0-9]{1,6} ?(ms|s|min|m|h)?")
_OURS = "trailgate."
_PRINTED_NAME = 64


class StartupRefused(Exception):
    """The start-up packet asks for what the gateway does not give; in PostgreSQL's terms."""

    def __init__(self, sqlstate: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Startup:
    """A start-up packet that passed."""

    user: str
    database: str
    settings: tuple[tuple[str, str], ...] = ()
    """For the target: names in lower case, each once, the value that PostgreSQL would use."""
    application_name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    unknown_options: tuple[str, ...] = ()
    """Protocol options (`_pq_.`) that the client asked for; we know none."""
    minor: int = 0


@dataclass(slots=True)
class _Collected:
    """Settings while they are gathered: `options` first, as the server does."""

    settings: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    application_name: str = ""

    def take(self, name: str, value: str) -> None:
        key = name.lower()
        if key.startswith(_OURS):
            self.labels[key.removeprefix(_OURS)] = _our_setting(key, value)
        elif key == "application_name":
            self.application_name = shown_application_name(value)
        else:
            check_setting(key, value)
            self.settings[key] = value


def parse_startup(version: int, body: bytes) -> Startup:
    """Read a StartupMessage (`body`: what follows the protocol version). Raises StartupRefused."""
    if version >> 16 != 3:
        raise StartupRefused(
            "0A000",
            f"unsupported frontend protocol {version >> 16}.{version & 0xFFFF}: "
            "server supports 3.0 to 3.0",
        )
    pairs = _pairs(body)
    named = dict(pairs)
    user = named.get("user", "")
    if not user:
        raise StartupRefused("28000", "no PostgreSQL user name specified in startup packet")
    _check_replication(named.get("replication"))
    collected = _collect(pairs)
    labels = collected.labels
    if collected.application_name:
        labels = {"application_name": collected.application_name, **labels}
    return Startup(
        user=user,
        database=named.get("database") or user,
        settings=tuple(collected.settings.items()),
        application_name=collected.application_name,
        labels=tuple(labels.items()),
        unknown_options=tuple(name for name in named if name.startswith("_pq_.")),
        minor=version & 0xFFFF,
    )


def _pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        words = body.decode("utf-8").split("\0")
    except UnicodeDecodeError:
        raise StartupRefused("22021", "start-up parameters must be UTF-8") from None
    # name NUL value NUL ... NUL: split leaves an empty word for the end mark, and one behind it.
    if len(words) < 2 or len(words) % 2 or words[-1] or words[-2] or "" in words[:-2:2]:
        raise StartupRefused(
            "08P01", "invalid startup packet layout: expected terminator as last byte"
        )
    return list(zip(words[:-2:2], words[1:-2:2], strict=True))


def _collect(pairs: list[tuple[str, str]]) -> _Collected:
    """`options` before the rest, so that a parameter of its own wins (process_startup_options)."""
    collected = _Collected()
    for name, value in dict(pairs).items():
        if name == "options":
            for option, text in parse_options(value):
                collected.take(option, text)
    for name, value in pairs:
        if name not in ("user", "database", "options", "replication") and name[:5] != "_pq_.":
            collected.take(name, value)
    return collected


def _check_replication(value: str | None) -> None:
    if value is None or value.lower() in ("", "0", "f", "false", "n", "no", "of", "off"):
        return
    raise StartupRefused(
        "0A000",
        "trailgate: replication connections are not supported",
        "Connect to the server itself for replication; ordinary sessions go through the gateway.",
    )


def parse_options(text: str) -> list[tuple[str, str]]:
    """What the `options` parameter sets. Only `-c name=value` and `--name=value` are taken."""
    found: list[tuple[str, str]] = []
    words = iter(split_options(text))
    for word in words:
        if word.startswith("--") and len(word) > 2:
            assignment = word[2:]
        elif word.startswith("-c"):
            assignment = word[2:] or next(words, "")
        else:
            raise StartupRefused(
                "22023",
                f'trailgate: invalid command-line argument in "options": {_printable(word)}',
                "Use -c name=value or --name=value.",
            )
        name, equals, value = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise StartupRefused("22023", f'trailgate: "options" needs a value: {_printable(word)}')
        found.append((name, value))
    return found


def split_options(text: str) -> list[str]:
    """Split as the server does (pg_split_opts): white space parts words, a backslash quotes."""
    words: list[str] = []
    word: list[str] | None = None
    characters = iter(text)
    for character in characters:
        if character in " \t\n\r\v\f":
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        word.append(next(characters, "") if character == "\\" else character)
    if word is not None:
        words.append("".join(word))
    return words


def check_setting(name: str, value: str) -> None:
    """Raise StartupRefused unless the setting (name in lower case) may reach a target."""
    if name in _ALLOWED or _PLANNER_SWITCH.fullmatch(name):
        return
    if name == "standard_conforming_strings":
        # Off changes how text is read, by the server and by policy alike.
        if value.lower() in ("on", "true", "yes", "1", "t", "y"):
            return
    shown = _printable(name)
    if name in _SET_INSTEAD:
        raise StartupRefused(
            "42501",
            f'trailgate: "{shown}" cannot be set at start-up',
            f"Use SET {shown.upper().replace('_', ' ')} after login, where policy decides.",
        )
    if not _NAME.fullmatch(name):
        raise StartupRefused("42602", f'trailgate: invalid parameter name "{shown}"')
    raise StartupRefused(
        "42501",
        f'trailgate: start-up parameter "{shown}" is not allowed',
        f"Leave it out, or use SET {shown} after login, where policy decides.",
    )


def _our_setting(name: str, value: str) -> str:
    valid = {
        "trailgate.wait": lambda: _WAIT.fullmatch(value),
        "trailgate.traceparent": lambda: re.fullmatch(r"[0-9a-f-]{10,128}", value),
    }.get(name)
    if valid is None:
        raise StartupRefused("42704", f'trailgate: unrecognized parameter "{_printable(name)}"')
    if not valid():
        raise StartupRefused(
            "22023",
            f'trailgate: invalid value for parameter "{name}": "{_printable(value)}"',
            "trailgate.wait is a time such as 30s or 5min.",
        )
    return value


def shown_application_name(name: str) -> str:
    """As the server keeps it: `?` for what is not printable ASCII, cut at 63 bytes."""
    clean = "".join(c if 32 <= ord(c) <= 126 else "?" * len(c.encode()) for c in name)
    return clean[:63]


def named_session(session: str, application_name: str) -> str:
    """The application name for the target: the session's id first, for the server cuts at 63."""
    return f"{session} {shown_application_name(application_name)}".strip()[:63]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_PRINTED_NAME])
