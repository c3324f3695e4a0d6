# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate sessions`: the documents of the interface, filters, the tree, and kill."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from starlette.applications import Starlette

from gateway.admin.api.app import build_api
from gateway.admin.api.services import Services
from gateway.admin.api.serving import serve_api
from gateway.admin.cli import root
from gateway.admin.cli._reading import Recorded
from tests.record.recorded_story import Story

SESSION = [
    "id", "target", "protocol", "user", "origin", "chain", "groups", "grant", "client", "labels",
    "gateway", "policies", "opened", "closed", "state", "reason", "operations", "denied", "held",
    "masked", "rows", "bytes",
]  # fmt: skip
NODE = ["actor", "grant", "proved", "sessions", "children"]


def trailgate(*arguments: str) -> Result:
    return CliRunner().invoke(root, arguments)


def printed(*arguments: str) -> Any:
    result = trailgate(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "data").shipped()


def test_list_prints_the_documents_of_the_interface(story: Story) -> None:
    found = printed("sessions", "list", "--data", str(story.data), "-o", "json")
    assert [list(one) for one in found] == [SESSION, SESSION]
    assert [one["id"] for one in found] == [story.reader.id, story.writer.id]
    lines = trailgate("sessions", "list", "--data", str(story.data), "-o", "jsonl").stdout
    assert [json.loads(line) for line in lines.splitlines()] == found


def test_list_is_narrowed_and_paged(story: Story) -> None:
    def ids(*options: str) -> list[str]:
        found = printed("sessions", "list", "--data", str(story.data), "-o", "json", *options)
        return [one["id"] for one in found]

    reader, writer = story.reader.id, story.writer.id
    assert ids("--target", "stock") == [writer]
    assert ids("--since", "2026-11-24T12:00:02Z") == [writer]
    assert ids("--until", "2026-11-24T13:00:01+01:00") == [reader]
    assert ids("--since", "2026-11-25") == []
    assert ids("--limit", "1") == [reader]
    assert ids("--limit", "1", "--after", reader) == [writer]
    refused = trailgate("sessions", "list", "--data", str(story.data), "--after", "x")
    assert refused.exit_code == 2 and "no session x" in refused.stderr
    refused = trailgate("sessions", "list", "--data", str(story.data), "--since", "soon")
    assert refused.exit_code == 2 and "is no time" in refused.stderr


def test_the_tree_hangs_sessions_under_the_actors_that_opened_them(story: Story) -> None:
    tree = printed("sessions", "tree", "--data", str(story.data), "-o", "json")
    (alice,) = tree
    (boss,) = alice["children"]
    assert list(alice) == list(boss) == NODE
    assert (alice["actor"], alice["grant"], alice["proved"]) == ("alice", "g_root", True)
    assert (boss["actor"], boss["grant"], boss["proved"]) == ("boss", "g_boss", False)
    below = {one["actor"]: [s["id"] for s in one["sessions"]] for one in boss["children"]}
    assert below == {"reader": [story.reader.id], "writer": [story.writer.id]}
    text = trailgate("sessions", "tree", "--data", str(story.data)).stdout
    assert text.index("alice") < text.index("boss") < text.index(story.reader.id)


def test_show_takes_the_start_of_an_id(story: Story) -> None:
    data = str(story.data)
    length = next(n for n in range(1, 27) if story.reader.id[:n] != story.writer.id[:n])
    shown = printed("sessions", "show", story.reader.id[:length], "--data", data, "-o", "json")
    assert list(shown) == SESSION
    assert shown == printed("sessions", "list", "--data", data, "-o", "json")[0]
    text = trailgate("sessions", "show", story.reader.id, "--data", data).stdout
    assert "alice > boss > reader" in text and "p enforce" in text
    missing = trailgate("sessions", "show", "zzz", "--data", data)
    assert missing.exit_code == 2 and "no session begins" in missing.stderr


def test_without_a_record_the_cure_is_named(tmp_path: Path) -> None:
    nowhere = trailgate("sessions", "tree")
    assert nowhere.exit_code == 2 and "--data" in nowhere.stderr
    empty = trailgate("sessions", "list", "--data", str(tmp_path))
    assert empty.exit_code == 2 and "no record lies here" in empty.stderr


# --- with a running gateway ----------------------------------------------------------------------


class Open:
    """The sessions that a gateway would have open."""

    def __init__(self, *documents: Mapping[str, Any]) -> None:
        self.documents = list(documents)
        self.killed: list[str] = []

    async def live(self, *, own: bool = False) -> Sequence[Mapping[str, Any]]:
        return self.documents

    async def kill_session(self, session_id: str, reason: str) -> bool:
        self.killed.append(session_id)
        return True


@pytest.fixture
def opened(story: Story) -> Iterator[Open]:
    """The API's own admin socket on the story's data folder; the writer is live."""
    (document,) = [
        one for one in Recorded.opened(story.data).sessions() if one["target"] == "stock"
    ]
    counters = {"operations": 7, "denied": 2, "rows": 70, "bytes": 700, "held": 0, "masked": 0}
    sessions = Open({**document, **counters, "state": "open"})
    services = Services(
        cast(Any, None), cast(Any, None), cast(Any, None), url="", sessions=sessions
    )
    started, loop = threading.Event(), asyncio.new_event_loop()

    async def serve(api: Starlette) -> None:
        serving = await serve_api(api, uds=story.data / "admin.sock")
        started.set()
        await ended.wait()
        await serving.close()

    ended = asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(serve(build_api(services, admin=True)))
    )
    thread.start()
    assert started.wait(10)
    yield sessions
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)
    loop.close()


def test_live_sessions_are_open_and_counted_by_their_gateway(story: Story, opened: Open) -> None:
    reader, writer = printed("sessions", "list", "--data", str(story.data), "-o", "json")
    assert list(writer) == SESSION
    assert (reader["state"], writer["state"]) == ("closed", "open")
    assert (writer["operations"], writer["denied"], writer["bytes"]) == (7, 2, 700)


def test_kill_ends_the_one_open_session_that_is_meant(story: Story, opened: Open) -> None:
    data = str(story.data)
    answer = printed("sessions", "kill", story.writer.id[:20], "--data", data, "-o", "json")
    assert answer == {"killed": story.writer.id}
    assert opened.killed == [story.writer.id]
    closed = trailgate("sessions", "kill", story.reader.id, "--data", data)
    assert closed.exit_code == 1 and "no open session begins" in closed.stderr


def test_kill_without_a_gateway_could_not_be_done(story: Story) -> None:
    result = trailgate("sessions", "kill", "a", "--data", str(story.data))
    assert result.exit_code == 2 and "no gateway listens" in result.stderr
