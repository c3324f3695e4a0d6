# SPDX-License-Identifier: GPL-3.0-or-later
"""Two gateways on one PostgreSQL: grants and revocations are everywhere, and each can go."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.admin.cli.demo.postgres_server import NoServer, PostgresServer
from tests.live.gateway_process import command, command_json
from tests.live.test_serve import Served, serving, written

pytestmark = pytest.mark.live

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def state() -> Iterator[PostgresServer]:
    """Where the gateways keep their state: not the server that they stand before."""
    try:
        server = PostgresServer(tls=True)
    except NoServer as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@dataclass
class Nodes:
    one: Served
    two: Served
    state: PostgresServer


def node(folder: Path, name: str, shop: PostgresServer, url: str, limits: str) -> tuple[int, int]:
    folder.mkdir()
    ports = written(folder, shop)
    (folder / "dsn").write_text(url)
    (folder / "dsn").chmod(0o600)
    settings = folder / "trailgate.yaml"
    store = f'node: {name}\nstore: {{from: "file:dsn"}}\n'
    text = settings.read_text().replace("node: gw-test\n", store)
    settings.write_text(text.replace("drain_seconds: 5", f"drain_seconds: 5, {limits}"))
    return ports


@contextmanager
def two_nodes(
    folder: Path, shop: PostgresServer, state: PostgresServer, grace_seconds: int = 60
) -> Iterator[Nodes]:
    """Two gateways on a new database."""
    database = f"state_{next(_numbers)}"
    state.psql(f"CREATE DATABASE {database}")
    url = f"{state.url(database)}?sslmode=verify-full&sslrootcert={state.ca_path}"
    names = ("gw-a", "gw-b")
    with ExitStack() as stack:
        served = []
        for name in names:
            ports = node(folder / name, name, shop, url, f"store_grace_seconds: {grace_seconds}")
            served.append(stack.enter_context(serving(folder / name, ports)))
        yield Nodes(served[0], served[1], state)
        logs = "".join((folder / name / "log").read_text() for name in names)
        told = state.password in logs
        assert not told


@pytest.fixture(scope="module")
def nodes(
    shop: PostgresServer, state: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    """Two that live on from test to test."""
    with two_nodes(tmp_path_factory.mktemp("nodes"), shop, state) as both:
        yield both


@pytest.fixture
def mortal(shop: PostgresServer, state: PostgresServer, tmp_path: Path) -> Iterator[Nodes]:
    """Two of the test's own."""
    with two_nodes(tmp_path, shop, state) as both:
        yield both


def connects(served: Served, token: str) -> psycopg.Connection[Any]:
    return psycopg.connect(served.dsn(token, user="postgres"), autocommit=True)


def child(served: Served, token: str, name: str) -> dict[str, Any]:
    done = command_json(
        *("token", "--as", name),
        **{
            "TRAILGATE_URL": f"https://127.0.0.1:{served.api}",
            "TRAILGATE_CA_PATH": served.ca,
            "TRAILGATE_TOKEN": token,
        },
    )
    return dict(done)


def ends_within(link: psycopg.Connection[Any], seconds: float) -> float:
    """How long it goes on. Fails if longer than `seconds`."""
    began = time.monotonic()
    with pytest.raises(psycopg.Error):
        while time.monotonic() - began < seconds:
            link.execute("select 1")
            time.sleep(0.01)
    return time.monotonic() - began


def test_a_grant_of_one_node_logs_in_on_the_other_and_is_revoked_from_either(
    nodes: Nodes,
) -> None:
    root = nodes.one.token("data")
    agent = child(nodes.two, root, "agent")
    below = child(nodes.one, agent["token"], "below")
    assert below["chain"][1:] == ["agent", "below"]
    with connects(nodes.two, below["token"]) as link, connects(nodes.one, root) as own:
        assert link.execute("select count(*) from customers").fetchone() == (2,)
        revoke = command("grants", "revoke", agent["grant"], "--data", str(nodes.one.data))
        assert revoke.returncode == 0, revoke.stderr
        assert ends_within(link, 2) < 2
        assert own.execute("select 1").fetchone() == (1,)
    for served in (nodes.one, nodes.two):
        with pytest.raises(psycopg.OperationalError, match="revoked"):
            connects(served, below["token"])


def test_no_revocation_is_lost_whoever_revokes_what_where(nodes: Nodes) -> None:
    choices, root = random.Random(7), nodes.one.token("data")
    both = (nodes.one, nodes.two)
    agents = [child(both[n % 2], root, f"agent-{n}") for n in range(8)]
    with ExitStack() as stack:
        links = [
            stack.enter_context(connects(served, agent["token"]))
            for agent in agents
            for served in both
        ]
        with ThreadPoolExecutor(4) as pool:
            asked = [
                pool.submit(
                    command,
                    *("grants", "revoke", agent["grant"]),
                    *("--data", str(choices.choice(both).data)),
                )
                for agent in agents
                for _ in range(2)
            ]
        # Whoever comes second finds nothing in force, or the grant revoked: never an error of ours.
        assert {one.result().returncode for one in asked} <= {0, 1}
        for link in links:
            ends_within(link, 2)


def admin(served: Served) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(served.data / "admin.sock"))
    return httpx.Client(base_url="http://gateway", transport=transport)


def test_a_policy_of_one_node_is_in_force_on_the_other(nodes: Nodes) -> None:
    notes = {
        "match": {"targets": ["orders"], "groups": ["data"]},
        "rules": [{"id": "notes", "allow": {"sql": {"kinds": ["write"], "writes": ["notes"]}}}],
    }
    insert = "insert into notes (body) values ('from the other node')"
    with admin(nodes.one) as api, connects(nodes.two, nodes.two.token("data")) as link:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            link.execute(insert)
        made = api.put("/api/v1/policies/notes", json=notes)
        assert made.status_code == 201, made.text
        assert becomes(lambda: allowed(link, insert), 2)
        assert api.delete("/api/v1/policies/notes").status_code == 200
        assert becomes(lambda: not allowed(link, insert), 2)


def allowed(link: psycopg.Connection[Any], sql: str) -> bool:
    try:
        link.execute(sql)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def becomes(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_sessions_of_all_nodes_are_shown_and_ended_at_any(nodes: Nodes) -> None:
    agent = child(nodes.one, nodes.one.token("data"), "seen")
    token, data = agent["token"], [str(one.data) for one in (nodes.one, nodes.two)]

    def shown(query: str = "") -> dict[str, str]:
        found = api.get(f"/api/v1/sessions{query}").json()
        return {one["gateway"]: one["id"] for one in found if one["grant"] == agent["grant"]}

    with (
        connects(nodes.one, token) as one,
        connects(nodes.two, token) as two,
        admin(nodes.one) as api,
    ):
        two.execute("select 1")
        assert becomes(lambda: set(shown()) == {"gw-a", "gw-b"}, 5)
        assert set(shown("?own=true")) == {"gw-a"}
        there = shown()["gw-b"]
        kill = command("sessions", "kill", there, "--data", data[0])
        assert kill.returncode == 0, kill.stderr
        assert ends_within(two, 2) < 2
        assert one.execute("select 1").fetchone() == (1,)
        assert becomes(lambda: set(shown()) == {"gw-a"}, 5)
        # The record is each node's own.
        listed = [command_json("sessions", "list", "--data", folder) for folder in data]
        assert there not in {each["id"] for each in listed[0]}
        (ended,) = [each for each in listed[1] if each["id"] == there]
        assert ended["state"] == "killed"


@pytest.mark.fault
def test_one_node_is_killed_and_the_other_serves_on(mortal: Nodes) -> None:
    root = mortal.one.token("data")
    with connects(mortal.two, root) as link:
        link.execute("select 1")
        mortal.one.child.send_signal(signal.SIGKILL)
        mortal.one.child.wait()
        assert link.execute("select count(*) from customers").fetchone() == (2,)
        agent = child(mortal.two, root, "after")
        with connects(mortal.two, agent["token"]) as another:
            assert another.execute("select 1").fetchone() == (1,)
            command("grants", "revoke", agent["grant"], "--data", str(mortal.two.data))
            ends_within(another, 2)


class Load:
    """Statements on one session without a pause, until stopped; what went wrong, if anything."""

    def __init__(self, link: psycopg.Connection[Any]) -> None:
        self.done = 0
        self.error: psycopg.Error | None = None
        self._link = link
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._link.execute("select count(*) from customers")
                self.done += 1
        except psycopg.Error as error:
            self.error = error

    def more(self, count: int) -> None:
        """Wait until so many more are done."""
        goal, end = self.done + count, time.monotonic() + 30
        while self.done < goal and self.error is None:
            assert time.monotonic() < end
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)


@pytest.mark.fault
def test_the_database_restarts_under_load_and_sessions_go_on(nodes: Nodes) -> None:
    root = nodes.one.token("data")
    agent = child(nodes.one, root, "agent")
    with connects(nodes.one, agent["token"]) as one, connects(nodes.two, agent["token"]) as two:
        loads = [Load(one), Load(two)]
        nodes.state.halt()
        try:
            for load in loads:
                load.more(200)
            assert nodes.one.get("/readyz").status_code == 503
            # Without the store nobody comes in.
            with pytest.raises(psycopg.OperationalError, match="trailgate"):
                connects(nodes.two, root)
        finally:
            nodes.state.resume()
        for load in loads:
            load.more(200)
        assert [load.error for load in loads] == [None, None]
        with connects(nodes.two, root) as again:
            again.execute("select 1")
        # What is revoked now is heard: the listeners are back, or the poll is.
        revoke = command("grants", "revoke", agent["grant"], "--data", str(nodes.two.data))
        assert revoke.returncode == 0, revoke.stderr
        end = time.monotonic() + 2
        while any(load.error is None for load in loads) and time.monotonic() < end:
            time.sleep(0.01)
        for load in loads:
            assert load.error is not None
            load.stop()


@pytest.mark.fault
def test_past_the_grace_sessions_end(
    shop: PostgresServer, state: PostgresServer, tmp_path: Path
) -> None:
    with two_nodes(tmp_path, shop, state, grace_seconds=1) as nodes:
        _outlive(nodes)


def _outlive(nodes: Nodes) -> None:
    root = nodes.one.token("data")
    with connects(nodes.one, root) as link:
        link.execute("select 1")
        nodes.state.halt()
        try:
            ends_within(link, 15)
        finally:
            nodes.state.resume()
    began = time.monotonic()
    while nodes.one.get("/readyz").status_code != 200:
        assert time.monotonic() - began < 20
    with connects(nodes.one, root) as again:
        assert again.execute("select 1").fetchone() == (1,)
