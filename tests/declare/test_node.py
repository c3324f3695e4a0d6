# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong around a running gateway: a file and the store that quarrel, a reload, a record
that cannot be written."""

from __future__ import annotations

import asyncio
import sys

import pytest

from gateway.app import StartFailed
from tests.declare.conftest import CREDENTIAL, TARGET, Place, World


async def test_a_file_that_takes_a_declared_name_is_refused_at_start_and_reload(
    place: Place,
) -> None:
    async with place.running() as world:
        await world.declared("credentials/app", CREDENTIAL)
        with (place.folder / "objects.yaml").open("a") as file:
            file.write("---\ncredential: app\nuser: other\nlogin: trust\n")
        assert not await world.gateway.reload()
        assert world.gateway.objects.credentials["app"].user == "app"
    with pytest.raises(StartFailed, match="credential app is declared twice"):
        async with place.running():
            pass


async def test_a_reload_keeps_what_was_declared_and_takes_what_files_say(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    await world.declared("targets/orders", TARGET)
    port = world.gateway.port_of("orders")
    with (world.folder / "objects.yaml").open("a") as file:
        file.write("---\ncredential: of-file\nuser: other\nlogin: trust\n")
    (world.folder / "policies" / "p.yaml").write_text("policy: p\nrules: []\n")
    assert await world.gateway.reload()
    assert await world.names("credentials") == ["app", "of-file"]
    assert world.gateway.port_of("orders") == port
    policy = await world.get("policies/p")
    assert policy["managed_by"] == "file" and policy["document"]["text"].startswith("policy: p")
    taken = await world.put("policies/p", {"rules": []})
    assert taken.status_code == 409
    # A declared object may need one of a file; taking that out is refused.
    await world.declared("targets/t", {**TARGET, "credentials": ["of-file"]})
    text = (world.folder / "objects.yaml").read_text()
    (world.folder / "objects.yaml").write_text(text.partition("---\ncredential: of-file")[0])
    assert not await world.gateway.reload()
    assert "of-file" in world.gateway.objects.credentials


async def test_a_record_that_cannot_be_written_changes_nothing(world: World) -> None:
    await world.declared("credentials/app", CREDENTIAL)
    before = world.gateway.declarer.revision
    world.gateway._parts.recorder._fail_with("the disk is gone")
    answer = await world.put("targets/orders", TARGET)
    assert answer.status_code == 503, answer.text
    assert "nothing was changed" in answer.json()["detail"]
    assert world.gateway.declarer.revision == before
    with pytest.raises(KeyError):
        world.gateway.port_of("orders")


async def test_a_gateway_without_recipients_in_files_starts_by_those_declared(
    place: Place,
) -> None:
    key = (place.folder / "auditor" / "recipient.pub").read_text().strip()
    async with place.running() as world:
        await world.declared("recipients/second", {"key": key})
    text = (place.folder / "objects.yaml").read_text()
    (place.folder / "objects.yaml").write_text(text.partition("---\n")[2])
    async with place.running() as world:
        assert list(world.gateway.objects.recipients) == ["second"]


async def with_two_that_stop_a_start(place: Place) -> int:
    """Each would keep the other from being deleted alone; the revision with them."""
    file = place.folder / "elsewhere" / "ca.pem"
    file.parent.mkdir()
    file.write_text("-----BEGIN CERTIFICATE-----")
    async with place.running() as world:
        await world.declared("credentials/app", CREDENTIAL)
        await world.declared("targets/sound", TARGET)
        for name in ("bad0", "bad1"):
            await world.declared(f"targets/{name}", {**TARGET, "tls": {"ca_path": str(file)}})
        revision = world.gateway.declarer.revision
    file.unlink()
    return revision


async def test_declared_objects_that_stop_a_start_can_be_deleted_by_it(place: Place) -> None:
    before = await with_two_that_stop_a_start(place)
    with pytest.raises(StartFailed, match="is not a file") as failed:
        async with place.running():
            pass
    assert failed.value.cure.endswith("trailgate serve --delete target/bad0 --delete target/bad1")
    with pytest.raises(StartFailed, match="target bad1"):
        async with place.running(("target", "bad0")):
            pass
    with pytest.raises(StartFailed, match="there is no target nothing"):
        async with place.running(("target", "bad0"), ("target", "bad1"), ("target", "nothing")):
            pass
    # What another one needs is not taken from under it.
    with pytest.raises(StartFailed, match="no credential 'app'"):
        async with place.running(("target", "bad0"), ("target", "bad1"), ("credential", "app")):
            pass
    async with place.running(("target", "bad0"), ("target", "bad1")) as world:
        assert await world.names("targets") == ["sound"]
        assert world.gateway.port_of("sound")
        assert world.gateway.declarer.revision == before + 2
    async with place.running() as world:
        assert await world.names("targets") == ["sound"]


async def test_the_command_that_serves_deletes_them_too(place: Place) -> None:
    await with_two_that_stop_a_start(place)
    serve = [sys.executable, "-m", "gateway", "serve", "--config", "trailgate.yaml"]

    async def told(*more: str) -> tuple[int | None, str]:
        child = await asyncio.create_subprocess_exec(
            *serve, *more, cwd=place.folder, stderr=asyncio.subprocess.PIPE
        )
        assert child.stderr is not None
        text = b""
        async for line in child.stderr:
            text += line
            if b'"message": "ready"' in line:
                child.terminate()
        return await child.wait(), text.decode()

    status, text = await told()
    assert status == 2 and "--delete target/bad0 --delete target/bad1" in text
    for wrong in ("target", "target/", "nonsense/bad0"):
        status, text = await told("--delete", wrong)
        assert status == 2 and "Traceback" not in text, text
    status, text = await told("--delete", "target/bad0", "--delete", "targets/bad1")
    assert status == 0 and text.count("deleted at the start") == 2, text
    async with place.running() as world:
        assert await world.names("targets") == ["sound"]
