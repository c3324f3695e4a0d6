# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: runs every measure on every peer, interleaved, and writes docs/performance.md."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

from tests.bench import measures
from tests.bench.measures import Bulk, Latency
from tests.bench.stage import Peer, everything

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->"
T = TypeVar("T")
Rows = list[tuple[str, ...]]


def interleaved(
    peers: list[Peer], rounds: int, measure: Callable[[Peer], T], label: str
) -> dict[str, list[T]]:
    """Every peer once a round, in random order, so that the machine's drift hits all alike."""
    found: dict[str, list[T]] = {peer.name: [] for peer in peers}
    for turn in range(rounds):
        for peer in random.sample(peers, len(peers)):
            print(f"{label}: round {turn + 1}/{rounds}, {peer.name}", file=sys.stderr)
            found[peer.name].append(measure(peer))
    return found


def spread(values: list[float], digits: int = 2) -> str:
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def latency_rows(found: dict[str, list[Latency]]) -> Rows:
    direct = found["direct"]
    rows = []
    for name, runs in found.items():
        added50 = [run.p50 - base.p50 for run, base in zip(runs, direct, strict=True)]
        added99 = [run.p99 - base.p99 for run, base in zip(runs, direct, strict=True)]
        ratio = [run.tps / base.tps for run, base in zip(runs, direct, strict=True)]
        cpu = [run.cpu for run in runs]
        rows.append((name, spread(added50, 0), spread(added99, 0), spread(ratio), spread(cpu, 0)))
    return rows


def bulk_rows(found: dict[str, list[Bulk]]) -> Rows:
    direct = found["direct"]
    digests = {run.digest for runs in found.values() for run in runs}
    if len(digests) != 1:
        raise SystemExit("the peers returned different bytes")
    rows = []
    for name, runs in found.items():
        ratio = [base.seconds / run.seconds for run, base in zip(runs, direct, strict=True)]
        cost = [run.cpu / run.bytes * 1e9 for run in runs]
        rows.append((name, spread(ratio), spread(cost)))
    return rows


def table(title: str, head: tuple[str, ...], rows: Rows) -> str:
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n\n"


LATENCY = ("", "added p50, us", "added p99, us", "tps ratio", "CPU us/transaction")
BULK = ("", "throughput ratio", "CPU s/GB")


def latency_tables(peers: list[Peer], options: argparse.Namespace, tls: bool) -> str:
    text, over = "", "TLS" if tls else "no TLS"
    for clients in (1, 8, 32):
        title = f"`SELECT 1`, simple protocol, {clients} client{'s' * (clients > 1)}, {over}"
        found = interleaved(
            peers,
            options.rounds,
            lambda peer, c=clients: measures.select_one(peer, tls, c, options.seconds),  # type: ignore[misc]
            title,
        )
        text += table(title, LATENCY, latency_rows(found))
    for mode in ("simple", "prepared"):
        title = f"pgbench -S -M {mode}, 32 clients, {over}"
        found = interleaved(
            peers,
            options.rounds,
            lambda peer, m=mode: measures.pgbench_select(peer, tls, 32, options.seconds, m),  # type: ignore[misc]
            title,
        )
        text += table(title, LATENCY, latency_rows(found))
    return text


def bulk_tables(peers: list[Peer], options: argparse.Namespace, tls: bool) -> str:
    over = "TLS" if tls else "no TLS"
    title = f"SELECT of {options.rows:,} rows, {over}"
    found = interleaved(
        peers,
        options.bulk_rounds,
        lambda peer: measures.million_rows(peer, tls, options.rows),
        title,
    )
    text = table(title, BULK, bulk_rows(found))
    title = f"COPY of {options.megabytes} MB to the client, {over}"
    found = interleaved(
        peers,
        options.bulk_rounds,
        lambda peer: measures.copy_out(peer, tls, options.megabytes),
        title,
    )
    return text + table(title, BULK, bulk_rows(found))


def set_up_table(peers: list[Peer], options: argparse.Namespace, tls: bool) -> str:
    title = f"Connect and one query, one after the other, {'TLS' if tls else 'no TLS'}"
    found = interleaved(
        peers, options.rounds, lambda peer: measures.connects(peer, tls, options.seconds), title
    )
    rows: Rows = []
    for name, runs in found.items():
        rows.append((name, spread(runs, 0), spread([1000 / rate for rate in runs])))
    return table(title, ("", "connections/s", "ms each"), rows)


def memory_table(peers: list[Peer], sessions: int) -> str:
    rows = [
        (peer.name, f"{measures.idle_kib(peer, sessions):.1f}")
        for peer in peers
        if peer.name.startswith("trailgate")
    ]
    return table(f"Memory of an idle session, at {sessions} sessions", ("", "KiB"), rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bulk-rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--no-tls", action="store_true", help="leave the TLS tables out")
    parser.add_argument("--print", action="store_true", help="print only; docs stay as they are")
    return parser.parse_args()


def measured(options: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory(prefix="trailgate-bench-") as folder:
        Path(folder).chmod(0o755)
        with everything(Path(folder)) as peers:
            text = memory_table(peers, options.sessions)
            for tls in (False,) if options.no_tls else (False, True):
                text += latency_tables(peers, options, tls)
                text += set_up_table(peers, options, tls)
                text += bulk_tables(peers, options, tls)
            return text


def main() -> None:
    options = parsed()
    text = measured(options)
    print(text)
    if not options.print:
        page = PAGE.read_text()
        head, rest = page.split(BEGIN)
        PAGE.write_text(head + BEGIN + text + rest[rest.index(END) :])


if __name__ == "__main__":
    main()
