# SPDX-License-Identifier: GPL-3.0-or-later
"""`trailgate audit open`: who may see the pages, what stands on them, and that it does nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from gateway.admin.cli._reading import Recorded
from gateway.admin.cli.audit.desk.guard import COOKIE, Guard
from gateway.admin.cli.audit.desk.pages import Desk
from gateway.admin.cli.audit.desk.showing import seen
from tests.chromium import Chromium, find_chromium
from tests.record.recorded_story import Story, rows

EVIL = "<script>document.title='owned'</script><img src=http://192.0.2.1/x onerror=alert(1)>"


class Client:
    """A browser without pages: cookies are kept, redirections told."""

    def __init__(self, application: ASGIApp, base_url: str = "http://127.0.0.1:1") -> None:
        transport = httpx.ASGITransport(app=application)
        self._client = httpx.AsyncClient(transport=transport, base_url=base_url)
        self.cookies = self._client.cookies

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return asyncio.run(self._client.get(path, headers=headers))

    def post(self, path: str) -> httpx.Response:
        return asyncio.run(self._client.post(path))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    made = Story(tmp_path / "data")
    made.asked.simple(
        f"select '{EVIL}\u202e'", rows(EVIL, "a\x1b[2Jb\u200bc"), tag="SELECT 2", rows=2
    )
    return made.shipped()


def desk(story: Story, verdict: dict[str, object] | None = None) -> Desk:
    return Desk(Recorded.opened(story.data, story.identity()), "the place", lambda: verdict)


@pytest.fixture
def pages(story: Story) -> Client:
    return Client(desk(story).application())


# --- who may see them ----------------------------------------------------------------------------


@pytest.fixture
def guarded(story: Story) -> Iterator[tuple[Guard, Client]]:
    guard = Guard(desk(story).application())
    guard.port = 4711
    yield guard, Client(guard, "http://127.0.0.1:4711")


def test_the_address_works_once_and_for_one_browser(guarded: tuple[Guard, Client]) -> None:
    guard, client = guarded
    assert client.get("/").status_code == 403
    assert client.get("/?token=wrong").status_code == 403
    first = client.get(guard.address)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/").status_code == 200
    again = guard.address
    client.cookies.clear()
    assert client.get(again).status_code == 403
    assert client.get("/", headers={"cookie": f"{COOKIE}=guess"}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4711", "127.0.0.1", "[::1]:4711",
                                  "127.0.0.1:4712", "127.0.0.1.evil.example:4711", ""])  # fmt: skip
def test_another_name_for_this_machine_is_refused(guarded: tuple[Guard, Client], host: str) -> None:
    """DNS rebinding: the browser asks us, believing that we are that site."""
    guard, client = guarded
    answer = client.get(guard.address, headers={"host": host})
    assert answer.status_code == 421 and "set-cookie" not in answer.headers
    assert client.get(guard.address).status_code == 303


def test_every_answer_forbids_scripts_and_other_places(guarded: tuple[Guard, Client]) -> None:
    guard, client = guarded
    client.get(guard.address)
    for path in ("/", "/desk.css", "/nothing", "/session/nothing"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script" not in policy
        assert client.get(path).headers["cache-control"] == "no-store"
    assert client.post("/").status_code == 405


# --- what stands on them -------------------------------------------------------------------------


def test_sessions_are_listed_and_narrowed(story: Story, pages: Client) -> None:
    listed = pages.get("/").text
    assert story.reader.id[:8] in listed and story.writer.id[:8] in listed
    for query, there in (
        ("who=reader", True), ("who=nobody", False), ("target=orders", True),
        ("target=stock", False), ("denied=1", True), ("since=2026-11-24", True),
        ("since=2026-11-25", False), ("until=2026-11-23", False), ("state=closed", True),
        (f"who={story.reader.id[:9]}", True), ("from=1000", False), ("from=x", True),
    ):  # fmt: skip
        found = pages.get(f"/?{query}").text
        assert (f"/session/{story.reader.id}" in found) is there, query


def test_a_session_shows_statements_results_and_decisions(story: Story, pages: Client) -> None:
    shown = pages.get(f"/session/{story.reader.id}").text
    for text in ("select name", "Ada", "drop table t", "deny", "alice", "127.0.0.1:5000"):
        assert text in shown
    assert "/timeline/" in shown
    sealed = Desk(Recorded.opened(story.data), "", lambda: None).application()
    closed = Client(sealed).get(f"/session/{story.reader.id}").text
    assert "Ada" not in closed and "--identity" in closed


def test_a_tree_of_agents_is_one_timeline(story: Story, pages: Client) -> None:
    tree = pages.get("/agents").text
    assert tree.index("alice") < tree.index("boss") < tree.index("reader")
    line = pages.get(f"/timeline/{story.reader.id}").text
    assert "select name" in line and "insert into t" in line and "2 sessions" in line


def test_the_verdict_stands_on_every_page(story: Story) -> None:
    found = {
        "ok": False, "trust": "none", "trusted_by": [], "content": "opened", "complete_to": None,
        "witnessed_to": None, "checked": {"logs": 1}, "open": [], "pending": [], "lost": [],
        "gaps": [], "unresolved": [], "defects": [
            {"object": "seg/gw1/x", "kind": "digest", "detail": "has another SHA-256"}],
    }  # fmt: skip
    client = Client(desk(story, found).application())
    assert "not sound" in client.get("/").text
    assert "has another SHA-256" in client.get("/verification").text
    waiting = Client(desk(story).application()).get("/verification").text
    assert "Verifying" in waiting and 'http-equiv="refresh"' in waiting


def test_what_is_not_there_is_told(pages: Client) -> None:
    for path in ("/session/aaaa", "/timeline/aaaa"):
        answer = pages.get(path)
        assert answer.status_code == 404 and "no session begins" in answer.text


def test_recorded_text_is_text(story: Story, pages: Client) -> None:
    for path in (f"/session/{story.reader.id}", f"/timeline/{story.reader.id}"):
        shown = pages.get(path).text
        assert "<script" not in shown and "<img" not in shown
        assert "&lt;script&gt;" in shown
        assert "\x1b" not in shown and "\u202e" not in shown and "\u200b" not in shown
        assert '<span class="control">\\x1b</span>' in shown
        assert '<span class="control">\\u{202e}</span>' in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        ("a\tb\nc", "a\tb\nc"),
        ("<b>&\"'", "&lt;b&gt;&amp;&#34;&#39;"),
        ({"base64": "/wA="}, "\\xff00"),
        ("x" * 100_001, "x" * 100_000 + '<span class="more">… 1 more characters</span>'),
    ],
)
def test_values(value: object, shown: str) -> None:
    assert str(seen(value)) == shown


# --- in a browser --------------------------------------------------------------------------------


@pytest.mark.live
def test_a_browser_reads_the_record(story: Story, tmp_path: Path) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium here: tests/install-servers installs it")
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway", "audit", "open", "--data", str(story.data),
         "--identity", str(story.identity())],
        stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        address = child.stdout.readline().split()[-1]
        assert address.startswith("http://127.0.0.1:")
        home = address.partition("/?")[0]
        with Chromium(program) as browser:
            browser.go(address)
            assert "alice" in browser.text() and browser.evaluate("location.search") == ""
            browser.go(f"{home}/session/{story.reader.id}")
            text = browser.text()
            assert EVIL in text and "\\x1b" in text and "Ada" in text
            assert "owned" not in browser.evaluate("document.title")
            assert browser.evaluate("getComputedStyle(document.querySelector('.sql')).fontFamily")
            browser.go(f"{home}/timeline/{story.reader.id}")
            assert "insert into t" in browser.text()
            browser.go(f"{home}/verification")
            while "Verifying" in browser.text():
                browser.go(f"{home}/verification")
            assert "Not sound" in browser.text()
            browser.screenshot(tmp_path / "desk.png")
            elsewhere = [one for one in browser.requests if not one.startswith((home, "data:"))]
            assert elsewhere == []
        assert (tmp_path / "desk.png").read_bytes()[:4] == b"\x89PNG"
        assert httpx.get(address).status_code == 403
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
