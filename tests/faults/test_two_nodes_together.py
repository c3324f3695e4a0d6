# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes that one offline root certifies, in one bucket or one folder, verified together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from gateway.admin.cli import root as commands
from gateway.admin.cli.node.root import Root, public_path
from gateway.model import Grant
from gateway.record.recorder import NodeRecorder
from gateway.ship import ShipFailed
from gateway.ship.mirror import LogMirror
from gateway.ship.s3 import S3Publisher
from gateway.verify.findings import Findings
from gateway.verify.run import Request, verify
from tests.faults.auditor import day, kinds
from tests.faults.shipped_place import ShippedPlace, strict_buckets
from tests.faults.strict_s3 import EVIDENCE, KEYS, Asked, StrictS3
from tests.record.place import Place
from tests.record.test_grants import below, minted, root_grant, used

pytestmark = pytest.mark.fault


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(commands, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with strict_buckets(monkeypatch) as strict:
        yield strict


class Pair:
    """Two nodes of one operator: one auditor, one root."""

    def __init__(self, folder: Path, one: Place, two: Place) -> None:
        self.folder = folder
        self.nodes = one, two
        one.node, two.node = "gw-a", "gw-b"
        one.recipient()
        two.auditor = one.auditor
        self.root = folder / "root.key"
        Root.make(self.root, "root.example.com")

    def certify(self, place: Place) -> None:
        """Before a start that signs it, and after one that made the key."""
        asked, given = self.folder / "request", self.folder / f"certificate-{place.node}"
        asked.write_text(run("node", "request", "--data", place.data).stdout)
        given.write_text(run("node", "certify", asked, "--root", self.root).stdout)
        run("node", "install", given, "--data", place.data)

    @property
    def trust(self) -> Path:
        path = self.folder / "trust"
        certificates = sorted(self.folder.glob("certificate-*"))
        path.write_text(
            run("node", "trust", "--root", public_path(self.root), *certificates).stdout
        )
        return path


async def certified(folder: Path, one: Place, two: Place) -> Pair:
    """Each had one day uncertified, as a node that was set up."""
    pair = Pair(folder, one, two)
    for place in pair.nodes:
        if isinstance(place, ShippedPlace):
            async with place.running():
                pass
        else:
            await day(place, sessions=0)
        pair.certify(place)
    return pair


async def shared_work(one: NodeRecorder, two: NodeRecorder) -> list[Grant]:
    """Grants of the one node used on the other, and their children the other way round."""
    person = await minted(one, root_grant())
    await used(one, person)
    await used(two, person)
    lead = await minted(two, below(person, "lead"), person)
    await used(one, lead)
    reader = await minted(one, below(lead, "reader"), lead)
    await used(two, reader)
    await used(two, person)
    return [person, lead, reader]


def sound(findings: Findings) -> None:
    """Five sessions, and a node's own of each of four starts; three grants, recorded on both."""
    assert (findings.defects, findings.unresolved, findings.exit_code) == ([], [], 0)
    assert (findings.logs, findings.sessions, findings.grants) == (2, 9, 6)
    assert findings.content == "opened"


def made(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


# --- one bucket -----------------------------------------------------------------------------------


async def test_two_nodes_in_one_bucket(tmp_path: Path, s3: StrictS3) -> None:
    one, two = (ShippedPlace(made(tmp_path, name), s3) for name in ("a", "b"))
    pair = await certified(tmp_path, one, two)
    auditor = one.auditor / "identity"
    request = Request(f"s3://{EVIDENCE}/site", endpoint_url=s3.url, trust=pair.trust,
                      identity=auditor)  # fmt: skip
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(one.running())
        second = await stack.enter_async_context(two.running())
        await shared_work(first, second)
        await first._log.sign()
        await one.mirror.mirror()
        # While both run, and the one is ahead of the other, nothing is taken for a defect.
        assert verify(request).defects == []
    sound(verify(request))
    assert s3.refused == []
    # The other's log does not have what this grant says that it has.
    async with two.running() as second:
        await used(second, root_grant("g_more", minted_in="gw-a/0/" + "a" * 26))
    assert kinds(verify(request)) == {"grant"}


async def test_a_mirror_that_stops_at_any_put_leaves_a_log_that_reads(
    tmp_path: Path, s3: StrictS3
) -> None:
    """Older copies of checkpoints have no tiles of their own there: none may be the newest."""
    place = ShippedPlace(tmp_path, s3)
    async with place.running():
        pass
    left = 0

    def fault(asked: Asked) -> str:
        nonlocal left
        if asked.method == "PUT" and "/log/" in asked.key:
            left -= 1
            return "503" if left < 0 else ""
        return "503" if asked.method == "PUT" and "/seg/" in asked.key else ""

    s3.fault = fault
    copy = tmp_path / "copy"
    async with place.running(publish_seconds=0.1) as recorder:
        await used(recorder, await minted(recorder, root_grant()))
        await recorder._log.sign()
        copied = place.as_killed(copy)
    publisher = S3Publisher(EVIDENCE, "site", place._options, keys_bucket=KEYS)
    mirror = LogMirror(copied.evidence, publisher, copied.data / "keys")
    allowed, whole = 0, False
    while not whole and allowed < 40:
        # Every try goes a put further, or to the checkpoint.
        left = allowed = allowed + 1
        try:
            await mirror.mirror()
            whole = True
        except ShipFailed:
            assert place.verify_bucket().defects == [], allowed
    publisher.close()
    assert (whole, place.verify_bucket().defects) == (True, [])
    assert allowed > 3


async def test_what_one_node_lacks_is_found_beside_a_sound_one(
    tmp_path: Path, s3: StrictS3
) -> None:
    one, two = (ShippedPlace(made(tmp_path, name), s3) for name in ("a", "b"))
    pair = await certified(tmp_path, one, two)
    async with one.running() as first, two.running() as second:
        await shared_work(first, second)
    request = Request(f"s3://{EVIDENCE}/site", endpoint_url=s3.url, trust=pair.trust)
    # Past every lock, as an operator of the store itself could: without a trace.
    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*s3.behind))
    removed = [name for name in two.names() if "/gw-b/" in name]
    for page in client.get_paginator("list_object_versions").paginate(Bucket=EVIDENCE):
        for one_version in page["Versions"]:
            if one_version["Key"] in removed:
                client.delete_object(Bucket=EVIDENCE, Key=one_version["Key"],
                                     VersionId=one_version["VersionId"])  # fmt: skip
    client.close()
    findings = verify(request)
    assert ("log/gw-b", "missing") in {(found.object, found.kind) for found in findings.defects}
    # Without a trust file nobody can miss a node, but what the other one cites of it.
    findings = verify(replace(request, trust=None))
    assert any("minted in log/gw-b/0, which was not given" in one for one in findings.unresolved)


async def test_commands_read_both_nodes_of_one_bucket(tmp_path: Path, s3: StrictS3) -> None:
    one, two = (ShippedPlace(made(tmp_path, name), s3) for name in ("a", "b"))
    pair = await certified(tmp_path, one, two)
    async with one.running() as first, two.running() as second:
        grants = await shared_work(first, second)
    place = (f"s3://{EVIDENCE}/site", "--endpoint-url", s3.url)
    told = json.loads(run("verify", *place, "--trust", pair.trust, "-o", "json").stdout)
    assert (told["ok"], told["trusted_by"]) == (True, ["root.example.com"])
    listed = json.loads(run("sessions", "list", "--data", *place, "-o", "json").stdout)
    assert sorted(found["gateway"] for found in listed) == ["gw-a"] * 2 + ["gw-b"] * 3
    tree: list[Any] = json.loads(run("sessions", "tree", "--data", *place, "-o", "json").stdout)
    # One person with one chain below, whichever node each grant and each session is of.
    (person,) = tree
    (lead,) = person["children"]
    (reader,) = lead["children"]
    found = [(x["grant"], len(x["sessions"])) for x in (person, lead, reader)]
    assert found == [(grant.id, n) for grant, n in zip(grants, (3, 1, 1), strict=True)]


# --- one folder -----------------------------------------------------------------------------------


async def test_two_nodes_in_one_folder(tmp_path: Path) -> None:
    one, two = (Place(made(tmp_path, name)) for name in ("a", "b"))
    shared = made(tmp_path, "shared")
    for place in (one, two):
        place.evidence = shared / "evidence"
    pair = await certified(tmp_path, one, two)
    request = Request(str(shared), trust=pair.trust, identity=one.auditor / "identity")
    first, second = await one.start(), await two.start()
    await shared_work(first, second)
    await first._log.sign()
    assert verify(request).defects == []
    await second.stop()
    assert verify(request).defects == []
    await first.stop()
    sound(verify(request))
    assert verify(replace(request, session="nobody")).exit_code == 2
    for place in pair.nodes:
        gone = shared / "evidence" / "log" / place.node
        kept = gone.rename(tmp_path / place.node)
        assert "missing" in kinds(verify(request))
        kept.rename(gone)
    sound(verify(request))
    # A certificate of the one node says nothing for the other.
    other = next((shared / "evidence" / "log" / "gw-a").glob("*/certificates/*"))
    (shared / "evidence" / "log" / "gw-b" / "0" / "certificates" / other.name).write_bytes(
        other.read_bytes()
    )
    assert not verify(request).document()["ok"]
