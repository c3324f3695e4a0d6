# SPDX-License-Identifier: GPL-3.0-or-later
"""Master keys: files and systemd credentials, AWS KMS, and Vault's transit engine."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from gateway.credentials.kms import KmsKey
from gateway.credentials.master import (
    KeyRing,
    LocalKey,
    MasterKey,
    VaultFailed,
    make_key_file,
    read_key_file,
    read_systemd_credential,
)
from gateway.credentials.transit import TransitKey, TransitPlace
from tests.credentials.transit_server import TransitServer


async def works(key: MasterKey) -> None:
    await key.start()
    wrapped = await key.wrap(b"k" * 32, b"context")
    assert b"k" * 32 not in wrapped and key.opens(key.id)
    assert await key.unwrap(key.id, wrapped, b"context") == b"k" * 32
    with pytest.raises(VaultFailed):
        await key.unwrap(key.id, wrapped, b"other context")
    await key.close()


# --- local ---------------------------------------------------------------------------------------


async def test_a_file_that_we_make_is_ours_alone_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    make_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = read_key_file(path)
    await works(key)
    with pytest.raises(FileExistsError):
        make_key_file(path)
    assert read_key_file(path).id == key.id


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    make_key_file(path)
    path.chmod(0o640)
    with pytest.raises(VaultFailed, match=f"chmod 600 {path}"):
        read_key_file(path)


@pytest.mark.parametrize("text", ["", "x" * 44, "c2hvcnQ=", "A" * 5000, "é"])
def test_what_is_no_key_is_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(VaultFailed, match="is not 32 bytes in base64") as raised:
        read_key_file(path)
    assert not text or text not in str(raised.value)


def test_a_file_that_is_gone_says_what_that_means(tmp_path: Path) -> None:
    with pytest.raises(VaultFailed, match="restore it from its backup"):
        read_key_file(tmp_path / "none")


def test_a_systemd_credential_is_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "master"
    make_key_file(path)
    path.chmod(0o440)  # how an ACL of systemd's looks
    key = read_systemd_credential("master", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    path.chmod(0o600)
    assert key.id == read_key_file(path).id
    with pytest.raises(VaultFailed, match="LoadCredential=master:"):
        read_systemd_credential("master", {})


async def test_a_ring_opens_by_each_of_its_keys_and_wraps_by_the_first() -> None:
    old, new = LocalKey(os.urandom(32)), LocalKey(os.urandom(32))
    _, wrapped = await KeyRing(old).wrap(b"k", b"c")
    ring = KeyRing(new, [old])
    assert await ring.unwrap(old.id, wrapped, b"c") == b"k"
    assert (await ring.wrap(b"k", b"c"))[0] == new.id
    with pytest.raises(VaultFailed, match="previous"):
        await KeyRing(new).unwrap(old.id, wrapped, b"c")


# --- AWS KMS -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kms_key(cloud: str) -> str:
    client = boto3.client("kms", endpoint_url=cloud, region_name="eu-central-1")
    made: str = client.create_key()["KeyMetadata"]["Arn"]
    client.create_alias(AliasName="alias/trailgate", TargetKeyId=made)
    return made


async def test_kms_wraps_by_arn_and_by_alias(cloud: str, kms_key: str) -> None:
    await works(KmsKey(kms_key, None, cloud))
    by_alias = KmsKey("alias/trailgate", "eu-central-1", cloud)
    await works(by_alias)
    assert by_alias.id == f"aws-kms:{kms_key}"


async def test_what_an_alias_wrapped_opens_after_it_names_another_key(
    cloud: str, kms_key: str
) -> None:
    key = KmsKey("alias/trailgate", "eu-central-1", cloud)
    await key.start()
    before, wrapped = key.id, await key.wrap(b"k", b"c")
    client = boto3.client("kms", endpoint_url=cloud, region_name="eu-central-1")
    other = client.create_key()["KeyMetadata"]["KeyId"]
    client.update_alias(AliasName="alias/trailgate", TargetKeyId=other)
    again = KmsKey("alias/trailgate", "eu-central-1", cloud)
    await again.start()
    assert again.id != before and again.opens(before)
    assert await again.unwrap(before, wrapped, b"c") == b"k"
    client.update_alias(AliasName="alias/trailgate", TargetKeyId=kms_key)


async def test_a_key_that_kms_does_not_have_names_the_cure(cloud: str) -> None:
    with pytest.raises(VaultFailed, match="kms:Encrypt"):
        await KmsKey("alias/none", "eu-central-1", cloud).start()


async def test_a_kms_that_is_away_names_the_place(cloud: str) -> None:
    with pytest.raises(VaultFailed, match="alias/x"):
        await KmsKey("alias/x", "eu-central-1", "http://127.0.0.1:9").start()


# --- Vault transit -------------------------------------------------------------------------------


@pytest.fixture
def transit(tmp_path: Path) -> Iterator[TransitServer]:
    (tmp_path / "token").write_text("hvs.right\n")
    with TransitServer(token="hvs.right", keys=["trailgate"]) as server:
        yield server


def place(server: TransitServer, tmp_path: Path, **more: str) -> TransitPlace:
    return TransitPlace(server.url, tmp_path / "token", **more)


async def test_transit_wraps_and_goes_on_after_its_key_is_rotated(
    transit: TransitServer, tmp_path: Path
) -> None:
    key = TransitKey("trailgate", place(transit, tmp_path, namespace="infra"))
    await works(key)
    await key.start()
    wrapped = await key.wrap(b"k", b"c")
    transit.rotate("trailgate")
    assert await key.unwrap(key.id, wrapped, b"c") == b"k"
    assert (await key.wrap(b"k", b"c")).startswith(b"vault:v2:")
    assert {call["namespace"] for call in transit.calls} == {"infra"}
    await key.close()


async def test_a_renewed_token_is_read_and_a_wrong_one_names_the_cure(
    transit: TransitServer, tmp_path: Path
) -> None:
    key = TransitKey("trailgate", place(transit, tmp_path))
    await key.start()
    transit.token = "hvs.renewed"
    with pytest.raises(VaultFailed, match="HTTP 403 permission denied.*may update") as raised:
        await key.wrap(b"k", b"c")
    assert "hvs." not in str(raised.value)
    (tmp_path / "token").write_text("hvs.renewed")
    assert await key.wrap(b"k", b"c")
    (tmp_path / "token").write_text("two words")
    with pytest.raises(VaultFailed, match="not one word"):
        await key.wrap(b"k", b"c")
    await key.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"no json"),
        (200, b"[]"),
        (200, b'{"data": {}}'),
        (200, b'{"data": {"ciphertext": 7}}'),
        (503, b'{"errors": ["Vault is sealed"]}'),
        (500, b""),
    ],
)
async def test_an_answer_that_is_none_is_refused(
    status: int, body: bytes, transit: TransitServer, tmp_path: Path
) -> None:
    transit.instead = (status, body)
    with pytest.raises(VaultFailed, match="vault-transit:transit/trailgate"):
        await TransitKey("trailgate", place(transit, tmp_path)).start()


async def test_a_changed_ciphertext_is_refused(transit: TransitServer, tmp_path: Path) -> None:
    key = TransitKey("trailgate", place(transit, tmp_path))
    await key.start()
    wrapped = await key.wrap(b"k" * 32, b"c")
    prefix, _, text = wrapped.decode().rpartition(":")
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    with pytest.raises(VaultFailed):
        await key.unwrap(key.id, f"{prefix}:{base64.b64encode(data).decode()}".encode(), b"c")
    await key.close()


async def test_a_transit_engine_that_is_away_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    key = TransitKey("k", TransitPlace("http://127.0.0.1:9", tmp_path / "token"))
    with pytest.raises(VaultFailed, match="http://127.0.0.1:9"):
        await key.start()
