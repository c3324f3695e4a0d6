# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of grants: cited from both ends, cheap, closed by recovery, and verified."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.model import Ending, Grant, Hop, Identity, RecordFailed
from gateway.record.grants import GrantRecords
from gateway.record.recorder import NodeRecorder
from gateway.verify.run import Request, verify
from tests.record.place import Place

BY_ADMIN = Ending(by="admin")
ALICE = Identity("https://id", "u1", "alice")


def root_grant(name: str = "g_root", **changes: Any) -> Grant:
    now = time.time()
    known = {"groups": ("staff",), "login": {"iss": "https://id", "token_sha256": "00"}, **changes}
    return Grant(name, ALICE, root=name, issued_at=now, expires_at=now + 600, **known)


def below(parent: Grant, name: str, **changes: Any) -> Grant:
    hop = Hop(name, False, None, f"g_{name}")
    known: dict[str, Any] = {"chain": (*parent.chain, hop), "parent": parent.id, "minted_in": ""}
    return replace(parent, id=hop.grant, **{**known, **changes})


async def minted(recorder: NodeRecorder, grant: Grant, parent: Grant | None = None) -> Grant:
    return replace(grant, minted_in=await recorder.grants.mint(grant, parent, None))


async def used(recorder: NodeRecorder, grant: Grant) -> None:
    """A session of the grant, as the proxy opens one, that ends at once."""
    opening = {
        "target": "t",
        "grant": grant.id,
        "root_grant": grant.root,
        "origin": {
            "issuer": grant.origin.issuer,
            "subject": grant.origin.subject,
            "name": grant.origin.name,
            "kind": grant.origin.kind,
        },
        "groups": list(grant.groups),
        "chain": [
            {"name": hop.name, "proved": hop.proved, "issuer": "", "subject": "",
             "grant": hop.grant, "isolation": hop.isolation}
            for hop in grant.chain
        ],
        "login": dict(grant.login),
    }  # fmt: skip
    session = await recorder.open(opening, grant)
    session.append("request", "client", b"select 1", b'{"at":0}')
    await session.close("client", {})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
async def recorder(place: Place) -> AsyncIterator[NodeRecorder]:
    running = await place.start()
    yield running
    await running.stop()


def frames_of(place: Place, grant: str) -> list[dict[str, Any]]:
    """The metadata of all frames of a grant's records, as they lie in segments."""
    from gateway.record.frames import session_text, walk

    found: list[tuple[str, dict[str, Any]]] = []
    for path in sorted(place.evidence.glob("seg/**/*"), key=lambda one: one.stat().st_mtime_ns):
        if path.is_file():
            for frame in walk(path.read_bytes()):
                found.append((session_text(frame.session), json.loads(frame.meta)))
    mine = {session for session, meta in found if meta.get("record") == "grant"
            and meta.get("grant") == grant}  # fmt: skip
    return [meta for session, meta in found if session in mine]


async def test_a_tree_of_grants_is_sound_and_its_counts_fit(place: Place) -> None:
    recorder = await place.start()
    root = await minted(recorder, root_grant())
    child = await minted(recorder, below(root, "lead", narrowing=({"scope": ["t"]},)), root)
    grandchild = await minted(recorder, below(child, "reader"), child)
    for grant, sessions in ((root, 1), (child, 0), (grandchild, 3)):
        await asyncio.gather(*(used(recorder, grant) for _ in range(sessions)))
    await recorder.grants.refreshed(child, time.time() + 60, "alice")
    told = recorder.grants.ended((child.id, grandchild.id), BY_ADMIN, "because")
    assert set(told) == {child.id, grandchild.id}
    await recorder.stop()
    findings = place.assert_complete()
    assert (findings.grants, findings.sessions, findings.exit_code) == (3, 5, 0)
    mint, refresh, revoke, end = frames_of(place, child.id)
    assert mint["parent"]["grant"] == root.id
    assert mint["narrowing"] == [{"scope": ["t"]}]
    assert (refresh["event"], refresh["by"]) == ("refresh", "alice")
    assert (revoke["event"], revoke["grants"]) == ("revoke", [child.id, grandchild.id])
    assert (end["reason"], end["sessions"]) == ("revoked", 0)
    assert frames_of(place, grandchild.id)[-1]["sessions"] == 3
    assert frames_of(place, root.id)[-1]["reason"] == "drain"


async def test_a_later_start_cites_the_mint_of_the_one_before(place: Place) -> None:
    recorder = await place.start()
    root = await minted(recorder, root_grant())
    await used(recorder, root)
    await recorder.stop()
    recorder = await place.start()
    await asyncio.gather(*(used(recorder, root) for _ in range(5)))
    child = await minted(recorder, below(root, "lead"), root)
    await used(recorder, child)
    await recorder.stop()
    place.assert_complete()
    events = [meta["event"] for meta in frames_of(place, root.id) if meta.get("record")]
    assert events == ["mint", "resume"]


async def test_a_kill_closes_them_as_interrupted_and_they_go_on(
    place: Place, tmp_path: Path
) -> None:
    recorder = await place.start()
    root = await minted(recorder, root_grant())
    await used(recorder, root)
    killed = place.as_killed(tmp_path / "killed")
    await recorder.stop()
    recorder = await killed.start()
    await used(recorder, root)
    await recorder.stop()
    findings = killed.assert_complete()
    assert findings.grants == 2
    leaves = [
        leaf
        for path in killed.evidence.glob("log/gw1/0/tile/entries/**/*")
        if path.is_file()
        for leaf in path.read_bytes().split(b"}")
    ]
    assert any(b'"reason":"interrupted"' in leaf for leaf in leaves)


async def test_a_mint_on_another_node_is_unresolved_until_its_log_is_given(
    tmp_path: Path,
) -> None:
    (tmp_path / "one").mkdir()
    one = Place(tmp_path / "one")
    recorder = await one.start()
    root = await minted(recorder, root_grant())
    await recorder.stop()
    (tmp_path / "two").mkdir()
    two = Place(tmp_path / "two")
    elsewhere = replace(root, minted_in=root.minted_in.replace("gw1/0", "gw9/0"))
    recorder = await two.start()
    await used(recorder, elsewhere)
    await recorder.stop()
    findings = two.verify()
    assert findings.defects == []
    assert findings.exit_code == 2
    (text,) = findings.unresolved
    assert "minted in log/gw9/0, which was not given" in text


async def test_a_mint_that_nobody_recorded_is_a_defect(place: Place) -> None:
    recorder = await place.start()
    real = await minted(recorder, root_grant())
    forged = replace(root_grant("g_forged"), minted_in="gw1/0/" + "a" * 26)
    await used(recorder, forged)
    spliced = replace(root_grant("g_spliced"), minted_in=real.minted_in)
    await used(recorder, spliced)
    await recorder.stop()
    details = [defect.detail for defect in place.verify().defects]
    assert len(details) == 2
    assert "has no record aaaa" in details[0]
    assert "says other things than the record" in details[1]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"origin": Identity("https://id", "u2", "mallory")}, "another origin than its parent"),
        ({"groups": ("staff", "admin")}, "another origin than its parent"),
        ({"login": {"iss": "https://other"}}, "another origin than its parent"),
        ({"narrowing": ()}, "narrowed less than its parent"),
        ({"narrowing": ({"scope": ["t", "u"]},)}, "narrowed less than its parent"),
        ({"expires_at": time.time() + 90000}, "outlives its parent"),
        ({"root": "g_other"}, "another origin than its parent"),
        ({"parent": "g_other"}, "another parent than its chain"),
        ({"chain": (Hop("x", grant="g_x"), Hop("reader", grant="g_reader"))}, "another parent"),
        ({"chain": (Hop("y", grant="g_lead"), Hop("reader", grant="g_reader"))}, "another chain"),
        ({"chain": (Hop("lead", grant="g_lead"),)}, "ends in another grant"),
        (
            {"chain": (Hop("l", grant="g_lead"), Hop("l", grant="g_lead"))},
            "passes one grant twice",
        ),
        (
            {"chain": (Hop("l", grant="g_root"), Hop("reader", grant="g_reader"))},
            "passes one grant|another",
        ),
    ],
)
async def test_a_child_that_does_not_stand_below_its_parent_is_named(
    place: Place, recorder: NodeRecorder, change: dict[str, Any], named: str
) -> None:

    root = await minted(recorder, root_grant())
    lead = await minted(recorder, below(root, "lead", narrowing=({"scope": ["t"]},)), root)
    await minted(recorder, replace(below(lead, "reader"), **change), lead)
    await recorder.stop()
    (defect,) = place.verify().defects
    assert (defect.kind, defect.object) == ("grant", "log/gw1/0")
    assert re.search(named, defect.detail), defect.detail


async def test_a_session_with_another_chain_than_its_grant_is_named(
    place: Place, recorder: NodeRecorder
) -> None:
    root = await minted(recorder, root_grant())
    await used(recorder, replace(root, chain=(Hop("ghost", grant="g_ghost"),)))
    await recorder.stop()
    (defect,) = place.verify().defects
    assert "another origin or chain than it has" in defect.detail


async def test_a_session_that_cites_nothing_is_named(place: Place, recorder: NodeRecorder) -> None:
    session = await recorder.open({"target": "t", "grant": "g_nowhere"})
    await session.close("client", {})
    await recorder.stop()
    (defect,) = place.verify().defects
    assert "cites grant g_nowhere, of which this log has no record" in defect.detail
    alone = verify(Request(str(place.data), session=session.id))
    assert [one.kind for one in alone.defects] == ["grant"]


async def test_a_wrong_count_is_named(place: Place, recorder: NodeRecorder) -> None:
    root = await minted(recorder, root_grant())
    await used(recorder, root)
    recorder.grants._open[root.id].sessions += 1
    await recorder.stop()
    (defect,) = place.verify().defects
    assert "counts 2 sessions at its end, and 1 cite it" in defect.detail


async def test_one_that_ended_gets_no_record_any_more(recorder: NodeRecorder) -> None:
    root = await minted(recorder, root_grant())
    recorder.grants.ended((root.id,), BY_ADMIN, "because")
    with pytest.raises(RecordFailed, match="has ended"):
        await used(recorder, root)
    with pytest.raises(RecordFailed, match="has ended"):
        await minted(recorder, below(root, "late"), root)


async def test_a_revocation_of_an_unused_grant_is_recorded(place: Place) -> None:
    recorder = await place.start()
    root = await minted(recorder, root_grant())
    await recorder.stop()
    recorder = await place.start()
    assert recorder.grants.ended((root.id,), BY_ADMIN, "because") == set()
    await recorder.grants.ended_unused(root, (root.id, "g_below"), BY_ADMIN, "because")
    await recorder.stop()
    place.assert_complete()
    assert [meta.get("event") for meta in frames_of(place, root.id)][-2:] == ["revoke", None]


@pytest.mark.parametrize(("how", "event"), [("lapsed", "lapse"), ("ended", "end")])
async def test_a_grant_that_was_not_revoked_does_not_say_so(
    place: Place, recorder: NodeRecorder, how: str, event: str
) -> None:
    root = await minted(recorder, root_grant())
    recorder.grants.ended((root.id,), Ending(how, "alice"), "because")
    await recorder.stop()
    place.assert_complete()
    _, told, close = frames_of(place, root.id)
    assert (told["event"], told["by"], close["reason"]) == (event, "alice", how)


async def test_a_suspension_is_in_the_records_of_its_tree_and_so_is_its_end(place: Place) -> None:
    recorder = await place.start()
    root = await minted(recorder, root_grant())
    child = await minted(recorder, below(root, "lead"), root)
    other = await minted(recorder, root_grant("g_other"))
    await used(recorder, child)
    for late in ((), (root.id, child.id), (root.id, child.id)):
        recorder.grants.standing(late)
    for grant in (root, child):
        with pytest.raises(RecordFailed, match="is suspended"):
            await used(recorder, grant)
    with pytest.raises(RecordFailed, match="is suspended"):
        await minted(recorder, below(child, "reader"), child)
    await used(recorder, other)
    await recorder.grants.restored(root, "corp")
    recorder.grants.standing(())
    await used(recorder, child)
    await recorder.stop()
    place.assert_complete()
    kinds = [meta.get("event") for meta in frames_of(place, child.id)]
    assert kinds == ["mint", "suspend", "restore", None]
    _, suspend, restore, _ = frames_of(place, root.id)
    assert "does not confirm" in suspend["cause"] and restore["by"] == "corp"
    assert "suspend" not in {meta.get("event") for meta in frames_of(place, other.id)}


async def test_a_suspension_of_an_unused_grant_is_recorded(place: Place) -> None:
    recorder = await place.start()
    root = await minted(recorder, root_grant())
    await recorder.stop()
    recorder = await place.start()
    await recorder.grants.suspended_unused(root, "the provider answered 503")
    await recorder.grants.suspended_unused(root, "the provider answered 503")
    with pytest.raises(RecordFailed, match="is suspended"):
        await used(recorder, root)
    await recorder.stop()
    recorder = await place.start()
    await recorder.grants.restored(root, "corp")
    await used(recorder, root)
    await recorder.stop()
    place.assert_complete()
    events = [meta["event"] for meta in frames_of(place, root.id) if meta.get("event")]
    assert events == ["mint", "resume", "suspend", "resume", "restore"]


async def test_what_opens_meanwhile_stands_before_the_suspension(
    place: Place, recorder: NodeRecorder
) -> None:
    root = await minted(recorder, root_grant())
    async with recorder.grants.citing(root):
        recorder.grants.standing((root.id,))
        with pytest.raises(RecordFailed, match="is suspended"):
            await used(recorder, root)
        before = recorder.grants._open[root.id].suspension_told
    after = recorder.grants._open[root.id].suspension_told
    assert (before, after) == (False, True)


async def test_a_session_that_begins_while_its_grant_is_suspended_is_named(
    place: Place, recorder: NodeRecorder
) -> None:
    """As a gateway would write that ignores its own suspension."""
    root = await minted(recorder, root_grant())
    for begun in (used(recorder, root), minted(recorder, below(root, "lead"), root)):
        recorder.grants.standing((root.id,))
        recorder.grants._open[root.id].suspended = False
        await begun
    await recorder.stop()
    told = " ".join(defect.detail for defect in place.verify().defects)
    assert f"began while grant {root.id} was suspended" in told
    assert "was minted while its parent was suspended" in told


async def test_what_opens_meanwhile_is_counted_before_the_end(
    place: Place, recorder: NodeRecorder
) -> None:
    root = await minted(recorder, root_grant())
    opening = [asyncio.create_task(used(recorder, root)) for _ in range(8)]
    await asyncio.sleep(0)
    recorder.grants.ended((root.id,), BY_ADMIN, "because")
    await asyncio.gather(*opening, return_exceptions=True)
    await recorder.stop()
    place.assert_complete()


async def test_the_expired_end_and_the_idle_are_parked(place: Place) -> None:
    recorder = await place.start()
    records = recorder.grants
    recorder.grants = GrantRecords("gw1/0", records._start, records._on_disk, most=3)
    grants = [await minted(recorder, root_grant(f"g_{n}")) for n in range(8)]
    assert recorder.grants.open_count == 3
    for grant in grants:
        await used(recorder, grant)
    assert recorder.grants.open_count == 3
    recorder.grants.sweep(time.time() + 700)
    assert recorder.grants.open_count == 0
    with pytest.raises(RecordFailed, match="has ended"):
        await used(recorder, grants[-1])
    await recorder.stop()
    findings = place.assert_complete()
    assert findings.grants > 8
    ends = [meta["reason"] for grant in grants for meta in frames_of(place, grant.id)
            if "reason" in meta]  # fmt: skip
    assert set(ends) == {"parked", "expired"}


async def test_a_lease_extended_often_costs_a_frame_now_and_then(
    place: Place, recorder: NodeRecorder
) -> None:
    root = await minted(recorder, root_grant())
    for _ in range(50):
        await recorder.grants.refreshed(root, time.time() + 60, "alice")
    await recorder.stop()
    *_, refresh, end = frames_of(place, root.id)
    assert (refresh["refreshes"], end["refreshes"]) == (1, 49)
    assert len(frames_of(place, root.id)) == 3


async def test_no_payload_enters_a_grants_record(recorder: NodeRecorder) -> None:
    root = await minted(recorder, root_grant())
    with pytest.raises(RecordFailed, match="no key"):
        recorder.grants._open[root.id].session.append("grant", "own", b"secret", b"{}")
