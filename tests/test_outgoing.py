# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway fetches: never from link-local or metadata addresses, however they are named."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.admin.api.serving import Serving, serve_api
from gateway.certificates import self_made
from gateway.config import ConfigError, load_settings
from gateway.identity.jwks import FetchFailed, IssuerKeys, fetch_json
from gateway.model import Refused
from gateway.outgoing import HOSTS_CAP, Closed, checked_url, is_closed, outgoing_client, resolved

METADATA = "http://169.254.169.254/latest/meta-data/iam"
CLOSED = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.169.254.",
    "0xa9fea9fe",
    "2852039166",
    "169.254.43518",
    "0251.0376.0251.0376",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fd00:ec2::254",
    "FD00:0EC2:0:0:0:0:0:254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "100.100.100.200",
    "168.63.129.16",
]
VKEY = "witness.auditor.example+10d0e7d2+BFAF8N8eBJXwzTGyUsOL6vxS0pkk5FnFDOK3cTyPKzQx"
TIMEOUT = httpx.Timeout(10.0)


@pytest.mark.parametrize("host", CLOSED)
def test_an_address_is_known_however_it_is_written(host: str) -> None:
    assert is_closed(host)
    written = f"[{host}]" if ":" in host else host
    with pytest.raises(Closed, match="link-local or metadata"):
        checked_url(f"https://{written}/keys")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::1", "localhost", "10.0.0.1", "169.253.1.1", "fd00::1", "2001:db8::1", "a.b"],
)
def test_other_addresses_are_open(host: str) -> None:
    assert not is_closed(host)
    written = f"[{host}]" if ":" in host else host
    assert checked_url(f"https://{written}/keys")


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[tuple[Serving, ssl.SSLContext]]:
    """A server for `idp.example` and localhost, with TLS; what it was asked for as it saw it."""

    async def asked(request: Request) -> Response:
        return JSONResponse({"host": request.headers["host"]})

    async def away(request: Request) -> Response:
        return RedirectResponse(METADATA)

    made = self_made(tmp_path, ["idp.example"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert_path, made.key_path)
    app = Starlette(routes=[Route("/asked", asked), Route("/away", away)])
    serving = await serve_api(app, ssl=context)
    yield serving, ssl.create_default_context(cafile=str(made.ca_path))
    await serving.close()


async def test_loopback_is_asked(provider: tuple[Serving, ssl.SSLContext]) -> None:
    serving, trust = provider
    for host in ("localhost", "127.0.0.1"):
        async with outgoing_client(trust, TIMEOUT) as client:
            found = await fetch_json(client, f"https://{host}:{serving.port}/asked")
        assert found == {"host": f"{host}:{serving.port}"}


async def test_a_name_keeps_its_certificate_and_host(
    provider: tuple[Serving, ssl.SSLContext],
) -> None:
    serving, trust = provider

    async def elsewhere(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with outgoing_client(trust, TIMEOUT, resolver=elsewhere) as client:
        found = await fetch_json(client, f"https://idp.example:{serving.port}/asked")
        assert found == {"host": f"idp.example:{serving.port}"}
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(f"https://other.example:{serving.port}/asked")


@pytest.mark.parametrize("led", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1%lo"])
async def test_a_name_that_leads_there_is_not_asked(
    provider: tuple[Serving, ssl.SSLContext], led: str
) -> None:
    serving, trust = provider

    async def there(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1", led]

    async with outgoing_client(trust, TIMEOUT, resolver=there) as client:
        with pytest.raises(httpx.ConnectError, match=r"idp\.example leads there: .*link-local"):
            await client.get(f"https://idp.example:{serving.port}/asked")
    assert serving.connections == 0


async def test_a_name_that_changes_after_the_check_is_still_asked_where_it_led(
    provider: tuple[Serving, ssl.SSLContext],
) -> None:
    serving, trust = provider
    asked: list[str] = []

    async def turning(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    async with outgoing_client(trust, TIMEOUT, resolver=turning) as client:
        url = f"https://idp.example:{serving.port}/asked"
        assert (await client.get(url)).status_code == 200
        assert asked == ["idp.example"], "once, by what was checked"
        with pytest.raises(httpx.ConnectError, match="leads there"):
            await client.get(url)


async def test_of_several_addresses_the_next_is_tried(
    provider: tuple[Serving, ssl.SSLContext],
) -> None:
    serving, trust = provider

    async def several(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.77", "127.0.0.1"]

    async with outgoing_client(trust, TIMEOUT, resolver=several) as client:
        answer = await client.get(f"https://idp.example:{serving.port}/asked")
        assert answer.status_code == 200


async def test_a_redirect_leads_nowhere(provider: tuple[Serving, ssl.SSLContext]) -> None:
    serving, trust = provider
    async with outgoing_client(trust, TIMEOUT) as client:
        with pytest.raises(FetchFailed, match="answered 307"):
            await fetch_json(client, f"https://localhost:{serving.port}/away")
        with pytest.raises(httpx.ConnectError, match="link-local or metadata"):
            await client.get(METADATA, follow_redirects=True)


async def test_a_proxy_is_asked_for_names_but_not_for_closed_addresses(
    provider: tuple[Serving, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    _, trust = provider
    async with outgoing_client(trust, TIMEOUT) as client:
        for url in ("https://idp.example/keys", "https://169.254.169.254/keys"):
            with pytest.raises(httpx.TransportError):
                await client.get(url)
    assert seen == [b"CONNECT idp.example:443 HTTP/1.1"]
    server.close()


async def test_keys_whose_place_a_document_names_are_not_had_there() -> None:
    async def discovery(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return JSONResponse({"issuer": base, "jwks_uri": "http://169.254.169.254/keys"})

    app = Starlette(routes=[Route("/.well-known/openid-configuration", discovery)])
    serving = await serve_api(app)
    keys = IssuerKeys(f"http://127.0.0.1:{serving.port}")
    with pytest.raises(Refused) as refused:
        await keys.candidates(None, "ES256")
    assert "link-local or metadata" in str(refused.value)
    await keys.close()
    await serving.close()


@pytest.mark.parametrize(
    "line",
    [
        "evidence: {to: s3://b/p, endpoint: 'http://169.254.169.254'}",
        "master_key: {key: 'aws-kms:k', endpoint: 'https://[fd00:ec2::254]'}",
        "master_key: {key: 'vault-transit:k', url: 'https://[fe80::1]', token_path: t}",
        f"evidence: {{witness: {{url: 'https://169.254.1.1', vkey: {VKEY}}}}}",
    ],
)
def test_no_setting_leads_there(tmp_path: Path, line: str) -> None:
    (tmp_path / "trailgate.yaml").write_text(f"data: data\n{line}\n")
    with pytest.raises(ConfigError, match="link-local or metadata"):
        load_settings(tmp_path / "trailgate.yaml")


async def test_the_systems_resolver_answers() -> None:
    assert await resolved("127.0.0.1", 443) == ["127.0.0.1"]


async def test_links_are_kept_of_so_many_names_only(
    provider: tuple[Serving, ssl.SSLContext],
) -> None:
    """An outside document may name ever new ones. The one in use stays."""
    serving, _ = provider

    async def here(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    unproved = ssl.create_default_context()
    unproved.check_hostname, unproved.verify_mode = False, ssl.CERT_NONE
    async with outgoing_client(unproved, TIMEOUT, resolver=here) as client:
        for number in range(HOSTS_CAP + 3):
            for host in (f"idp{number}.example", "idp.example"):
                answer = await client.get(f"https://{host}:{serving.port}/asked")
                assert answer.json()["host"] == f"{host}:{serving.port}"
        # The server hears of what was closed a little later; idle links it ends only after 5 s.
        for _ in range(20):
            if serving.connections <= HOSTS_CAP:
                break
            await asyncio.sleep(0.02)
        assert serving.connections <= HOSTS_CAP
