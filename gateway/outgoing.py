# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that the gateway makes because an object or an outside document names their address.

Whoever names an address could have the gateway ask its own cloud for the machine's credentials. So
link-local and metadata addresses are asked for nothing: neither as written, nor where a name leads.
A name is resolved once, and the link goes to what was checked: a second answer changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import httpx

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ADDRESSES_CAP = 8
"""Of one name: so many are tried."""
HOSTS_CAP = 64
"""Names whose links are kept: outside documents name some of them."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Name and port -> addresses. Raises OSError."""

_CLOSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # RFC 3927; most clouds' metadata
        "fe80::/10",  # RFC 4291 2.5.6
        "fd00:ec2::/32",  # AWS' metadata, time and names
        "fd20:ce::254/128",  # Google Cloud's
        "100.100.100.200/32",  # Alibaba Cloud's
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # Oracle Cloud's, of old
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


class Closed(ValueError):
    """An address from which nothing is fetched."""


def is_closed(text: str) -> bool:
    """Whether this is a link-local or metadata address, however it is written.

    False for a name: where that leads is seen when it is resolved.
    """
    address = _address(text)
    return address is not None and any(
        one in network for one in _meant(address) for network in _CLOSED
    )


def check_host(host: str) -> None:
    """Raises Closed."""
    if is_closed(host):
        raise Closed(
            f"{host} is a link-local or metadata address, of which nothing is asked: name another"
        )


def _address(text: str) -> Address | None:
    plain = text.strip("[]").partition("%")[0].rstrip(".")
    try:
        return ipaddress.ip_address(plain)
    except ValueError:
        pass
    try:
        # 169.254.43518, 0xa9fea9fe, 2852039166: what the resolver takes for an address, too.
        return ipaddress.IPv4Address(socket.inet_aton(plain))
    except (OSError, ValueError):
        return None


def _meant(address: Address) -> list[Address]:
    """The address, and those of version 4 that lie within it."""
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        found += [one for one in (address.ipv4_mapped, address.sixtofour) if one is not None]
        if address in _NAT64 or address in _COMPATIBLE:
            found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


async def resolved(host: str, port: int) -> list[str]:
    """The addresses of a name, in the system's order. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def outgoing_client(
    verify: ssl.SSLContext,
    timeout: httpx.Timeout,
    *,
    proxied: bool = True,
    resolver: Resolver = resolved,
) -> httpx.AsyncClient:
    """A client for such calls. `proxied`: through the environment's proxy, if there is one.

    Redirects are not followed.
    """
    return httpx.AsyncClient(
        transport=_Checked(verify, proxied, resolver), timeout=timeout, trust_env=False
    )


class _Checked(httpx.AsyncBaseTransport):
    def __init__(self, verify: ssl.SSLContext, proxied: bool, resolver: Resolver) -> None:
        self._verify = verify
        self._direct: dict[str, httpx.AsyncHTTPTransport] = {}
        """By name: a kept link was proved to be one host's, and is no other's at its address."""
        self._proxied = proxied
        self._resolver = resolver
        self._proxies: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        _check(request, host)
        proxy = _proxy_for(request.url) if self._proxied else None
        if proxy is not None:
            # Names are the proxy's to resolve: it stands where outgoing calls are ruled.
            if proxy not in self._proxies:
                made = httpx.AsyncHTTPTransport(verify=self._verify, proxy=proxy, trust_env=False)
                self._proxies[proxy] = made
            return await self._proxies[proxy].handle_async_request(request)
        return await self._straight(request, host)

    async def _straight(self, request: httpx.Request, host: str) -> httpx.Response:
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        try:
            addresses = list(await self._resolver(host, port))[:ADDRESSES_CAP]
        except OSError as error:
            raise httpx.ConnectError(f"{host}: {error}", request=request) from error
        for address in addresses:
            _check(request, host, address)
        transport = await self._transport(host)
        failure: httpx.TransportError = httpx.ConnectError(f"{host}: no address", request=request)
        for address in addresses:
            try:
                return await transport.handle_async_request(_to(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _transport(self, host: str) -> httpx.AsyncHTTPTransport:
        kept = self._direct.pop(host, None)
        if kept is None and len(self._direct) >= HOSTS_CAP:
            await self._direct.pop(next(iter(self._direct))).aclose()
        # The one that was used last stands last: the first is the longest unused.
        made = kept or httpx.AsyncHTTPTransport(verify=self._verify, trust_env=False)
        self._direct[host] = made
        return made

    async def aclose(self) -> None:
        for transport in (*self._direct.values(), *self._proxies.values()):
            await transport.aclose()


def _check(request: httpx.Request, host: str, address: str | None = None) -> None:
    try:
        check_host(host if address is None else address)
    except Closed as error:
        told = str(error) if address is None else f"{host} leads there: {error}"
        raise httpx.ConnectError(told, request=request) from error


def _to(request: httpx.Request, host: str, address: str) -> httpx.Request:
    """The same request to one address; certificate and Host stay the name's."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


def _proxy_for(url: httpx.URL) -> str | None:
    """Of HTTPS_PROXY and the like, unless NO_PROXY names the host."""
    if url.host in LOOPBACK or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def checked_url(url: str) -> str:
    """The URL if it is https, or http on loopback, and no closed address; else ValueError."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    check_host(host)
    if parts.scheme == "https" and host:
        return url
    if parts.scheme == "http" and host in LOOPBACK:
        return url
    raise ValueError(f"{url!r}: must be https:// (http:// only on 127.0.0.1, ::1 or localhost)")
