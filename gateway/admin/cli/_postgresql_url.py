# SPDX-License-Identifier: GPL-3.0-or-later
"""A postgresql:// URL as libpq reads it, and what the server behind it asks of a login."""

from __future__ import annotations

import getpass
import os
import re
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.config import Wrong
from gateway.model import Credential, Target, Tls

SCHEMES = ("postgresql", "postgres")
_KNOWN = {"host", "port", "user", "password", "dbname", "sslmode", "sslrootcert"} | {
    "sslcert",
    "sslkey",
    "connect_timeout",
    "application_name",
}
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_METHODS = {0: "trust", 3: "password", 5: "md5", 10: "scram-sha-256"}
_ANSWER_CAP = 64 * 1024


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """What a URL and libpq's environment say about a server."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    sslmode: str = "prefer"
    ca_path: str | None = None
    cert_path: str | None = None
    key_path: str | None = None

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


def parse_url(url: str, environment: Mapping[str, str] | None = None) -> PostgresUrl:
    """Read a URL; PGPASSWORD, PGUSER and ~/.pgpass fill what it leaves out.

    Raises Wrong, whose text never holds the password.
    """
    env = os.environ if environment is None else environment
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Wrong(
            "the URL cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DB"
        ) from None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key in query:
        if key not in _KNOWN:
            raise Wrong(f"the URL's option {key!r} is not known here; known are {sorted(_KNOWN)}")
    if "," in parts.netloc:
        raise Wrong("the URL names several hosts; name one")
    user = unquote(parts.username or "") or query.get("user") or env.get("PGUSER") or _login_name()
    read = PostgresUrl(
        host=query.get("host") or unquote(parts.hostname or "") or env.get("PGHOST") or "127.0.0.1",
        port=port or _port(query.get("port") or env.get("PGPORT") or "5432"),
        user=user,
        password=unquote(parts.password or "") or query.get("password", ""),
        database=unquote(parts.path.lstrip("/")) or query.get("dbname") or user,
        sslmode=query.get("sslmode") or env.get("PGSSLMODE") or "prefer",
        ca_path=_file(query, "sslrootcert"),
        cert_path=_file(query, "sslcert"),
        key_path=_file(query, "sslkey"),
    )
    if read.sslmode not in _MODES:
        raise Wrong(f"sslmode {read.sslmode!r} is none of {', '.join(_MODES)}")
    password = read.password or env.get("PGPASSWORD") or _from_pgpass(read, env)
    return replace(read, password=password)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "postgres"


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Wrong(f"{text!r} is not a port")
    return int(text)


def _file(query: Mapping[str, str], key: str) -> str | None:
    name = query.get(key)
    if not name or (key == "sslrootcert" and name == "system"):
        return None
    if not Path(name).is_file():
        raise Wrong(f"{key}: {name} is not a file")
    return str(Path(name).absolute())


def _from_pgpass(url: PostgresUrl, env: Mapping[str, str]) -> str:
    """The password of ~/.pgpass or PGPASSFILE, by libpq's rules; empty if there is none."""
    path = Path(env.get("PGPASSFILE") or Path(env.get("HOME") or "~").expanduser() / ".pgpass")
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    wanted = (url.host, str(url.port), url.database, url.user)
    for line in lines:
        fields = [re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", line)]
        if len(fields) == 5 and all(
            have in ("*", want) for have, want in zip(fields, wanted, strict=False)
        ):
            return fields[4]
    return ""


def probe(url: PostgresUrl, timeout: float = 10.0) -> tuple[Tls, str]:
    """Ask the server whether it speaks TLS and how it lets this user in. Blocks; sends no password.

    The login method is fixed from then on, so that the server cannot be talked down later.
    Without an sslmode, TLS is used if the server offers it, as libpq's `prefer` does. Raises
    OSError, or Wrong with the server's own refusal.
    """
    with _dial(url, timeout) as plain:
        plain.settimeout(timeout)
        mode = _tls_mode(url, plain)
        tls = Tls(mode, url.ca_path, url.cert_path, url.key_path)
        link = (
            plain
            if mode == "disable"
            else _context(tls).wrap_socket(plain, server_hostname=url.host)
        )
        with link:
            link.sendall(_startup(url))
            method = _method(_answer(link))
    return tls, "certificate" if method == "trust" and url.cert_path else method


def _dial(url: PostgresUrl, timeout: float) -> socket.socket:
    if not url.host.startswith("/"):
        return socket.create_connection((url.host, url.port), timeout)
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(timeout)
    link.connect(f"{url.host}/.s.PGSQL.{url.port}")
    return link


def _tls_mode(url: PostgresUrl, plain: socket.socket) -> str:
    if url.sslmode == "disable" or url.host.startswith("/"):
        return "disable"
    plain.sendall(_SSL_REQUEST)
    offered = plain.recv(1) == b"S"
    if url.sslmode.startswith("verify") or (url.sslmode == "require" and url.ca_path):
        wanted = "verify-full"
    else:
        wanted = "require"
    if offered:
        return wanted
    if url.sslmode in ("allow", "prefer"):
        return "disable"
    raise Wrong(f"{url.where} does not offer TLS, which sslmode={url.sslmode} asks for")


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_path)
    if tls.mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_path:
        context.load_cert_chain(tls.cert_path, tls.key_path)
    return context


def _startup(url: PostgresUrl) -> bytes:
    pairs = ("user", url.user, "database", url.database, "application_name", "trailgate try")
    body = struct.pack("!I", 196608) + b"".join(text.encode() + b"\0" for text in pairs) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def _answer(link: socket.socket) -> tuple[bytes, bytes]:
    header = _exactly(link, 5)
    length = int.from_bytes(header[1:], "big") - 4
    if header[:1] not in (b"R", b"E", b"v") or not 0 <= length <= _ANSWER_CAP:
        raise Wrong("this is no PostgreSQL server")
    body = _exactly(link, length)
    # NegotiateProtocolVersion comes before the answer proper.
    return _answer(link) if header[:1] == b"v" else (header[:1], body)


def _exactly(link: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise Wrong("the server closed the link; is it a PostgreSQL server?")
        data += part
    return bytes(data)


def _method(answer: tuple[bytes, bytes]) -> str:
    kind, body = answer
    if kind == b"E":
        fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0")}
        raise Wrong(f"the server refuses: {fields.get(b'M', 'no reason given')}")
    code = int.from_bytes(body[:4], "big")
    if code not in _METHODS:
        raise Wrong(f"the server asks for login method {code}, which is not in this version")
    return _METHODS[code]


def as_objects(
    name: str, url: PostgresUrl, tls: Tls, login: str, listen: tuple[str, int]
) -> tuple[Target, Credential]:
    """The target, on a listener of its own for any user and database, and its credential."""
    target = Target(
        name=name,
        protocol="postgresql",
        host=url.host,
        port=url.port,
        credentials=(name,),
        databases=(url.database, "*"),
        tls=tls,
        listen=listen,
        users="any",
        plain=True,
    )
    return target, Credential(name, url.user, login, url.password)
