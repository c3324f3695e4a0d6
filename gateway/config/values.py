# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings' own value types: addresses, secrets, places for evidence."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from gateway.config.reading import BAD, Reader, Wrong, nearest
from gateway.outgoing import Closed, check_host
from gateway.store.dsn import SCHEMES, Dsn

SECRET_CAP = 64 * 1024


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name, IPv4, IPv6 in brackets, or the folder of a unix socket) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            raise Wrong(f"{text!r} is not an address; write HOST:PORT")
        if not port.isascii() or not port.isdecimal() or not 0 <= int(port) <= 65535:
            raise Wrong(f"{port!r} is not a port; write a number from 0 to 65535")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise Wrong(f"{text!r} is ambiguous; write an IPv6 address in brackets: [::1]:{port}")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        return self.host in ("127.0.0.1", "::1", "localhost")


class BaseUrl(str):
    """https://HOST[:PORT][/PATH], without a slash at its end: paths are put behind it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"https://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~/-]*)?", text):
            raise Wrong(f"{text!r} is not where clients reach the API; write https://HOST:PORT")
        return cls(text.rstrip("/"))


class Endpoint(str):
    """Where a store or a key service is, instead of the cloud's own place."""

    @classmethod
    def parse(cls, text: str) -> Self:
        _check_outgoing(text)
        return cls(text)


def _check_outgoing(url: str) -> None:
    """Raises Wrong for an address that nothing is asked of."""
    try:
        check_host(urlsplit(url).hostname or "")
    except Closed as error:
        raise Wrong(str(error)) from None
    except ValueError:
        raise Wrong(f"{url!r} is no address; write https://HOST:PORT") from None


class WitnessUrl(str):
    """https://HOST[:PORT][/PATH], or http:// to this machine: the prefix of C2SP tlog-witness."""

    @classmethod
    def parse(cls, text: str) -> Self:
        local = r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/[A-Za-z0-9._~/-]*)?"
        if not re.fullmatch(local, text):
            try:
                BaseUrl.parse(text)
            except Wrong:
                raise Wrong(
                    f"{text!r} is no place of a witness; write https://HOST:PORT, or http:// to "
                    "127.0.0.1"
                ) from None
        _check_outgoing(text)
        return cls(text.rstrip("/"))


class WitnessVkey(str):
    """The line `vkey:` that `trailgate witness` prints: NAME+HASH+BASE64, of type 4."""

    @classmethod
    def parse(cls, text: str) -> Self:
        name, _, rest = text.partition("+")
        digest, _, encoded = rest.partition("+")
        try:
            data = base64.b64decode(encoded, validate=True)
        except ValueError:
            data = b""
        found = hashlib.sha256(name.encode() + b"\n" + data).hexdigest()[:8]
        if len(data) != 33 or data[0] != 4 or found != digest or not name or " " in name:
            raise Wrong(f"{text!r} is no witness's vkey; write what `trailgate witness` prints")
        return cls(text)


class MasterKeySource(str):
    """KIND:NAME, where a master key is."""

    KINDS = ("file", "systemd-credential", "aws-kms", "vault-transit")

    @classmethod
    def from_node(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        text = reader.value(node, str, at)
        if text is BAD:
            return BAD
        kind, _, name = text.partition(":")
        if kind not in cls.KINDS:
            return reader.wrong(node, f"{at}: {kind!r} is no kind of key", nearest(kind, cls.KINDS))
        if not name or (kind == "systemd-credential" and "/" in name):
            return reader.wrong(node, f"{at}: the key has no name", f'write "{kind}:NAME"')
        if kind == "file":
            name = str((reader.folder / Path(name).expanduser()).absolute())
        return cls(f"{kind}:{name}")

    @property
    def kind(self) -> str:
        return self.partition(":")[0]

    @property
    def name(self) -> str:
        return self.partition(":")[2]


class ObjectName(str):
    """What names an object: letters, digits, '.', '_', '-', at most 63; it may be a database name
    and a segment of a path."""

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", text):
            raise Wrong(f"{text!r} is no name; use letters, digits, '.', '_' and '-', at most 63")
        return cls(text)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret and where it came from. Its value is in no repr."""

    value: str = field(repr=False)
    source: str = "value"
    """`vault`: no value here, the vault has it."""

    @classmethod
    def from_node(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return cls._written(reader, node, at)
        pairs = reader.pairs(node, at)
        for key, (key_node, _) in pairs.items():
            if key not in ("from", "value"):
                reader.wrong(
                    key_node, f"unknown key {f'{at}.{key}'!r}", nearest(key, ("from", "value"))
                )
                return BAD
        if "value" in pairs and "from" not in pairs:
            return cls._written(reader, pairs["value"][1], at)
        if "from" not in pairs or "value" in pairs:
            return reader.wrong(
                node, f"{at}: a secret needs one source", 'write {from: "file:PATH"}'
            )
        source = reader.value(pairs["from"][1], str, f"{at}.from")
        return BAD if source is BAD else cls._fetched(reader, pairs["from"][1], source, at)

    @classmethod
    def _written(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        value = reader.value(node, str, at)
        if value is BAD:
            return BAD
        if cls.kept_from_others():
            reader.warn(node, f"{at}: the secret stands in the file", 'use {from: "file:PATH"}')
        return cls(value)

    @classmethod
    def kept_from_others(cls) -> bool:
        return True

    @classmethod
    def _fetched(cls, reader: Reader, node: yaml.Node, source: str, at: str) -> Any:
        if source == "vault" and cls.kept_from_others():
            return cls("", source)
        kind, colon, rest = source.partition(":")
        if not colon or kind not in ("file", "aws-secretsmanager", "vault-kv"):
            return reader.wrong(node, f"{at}.from: unknown source", 'write "file:PATH"')
        if kind != "file":
            return reader.wrong(
                node, f"{at}.from: {kind} is not in this version", 'use "file:PATH"'
            )
        path = reader.located(node, rest, at)
        if path is BAD:
            return BAD
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(SECRET_CAP + 1)
            value = content.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cure = "name a text file that this user may read"
            return reader.wrong(node, f"{at}: {path} cannot be read: {_reason(error)}", cure)
        if len(content) > SECRET_CAP or not value.strip():
            size = "empty" if not value.strip() else f"over {SECRET_CAP} bytes"
            return reader.wrong(node, f"{at}: {path} is {size}", "put the secret and nothing else")
        if cls.kept_from_others() and mode & stat.S_IROTH and os.name == "posix":
            reader.warn(node, f"{at}: {path} can be read by everybody", f"chmod 600 {path}")
        return cls(value.rstrip("\r\n"), source)


class PublicKey(Secret):
    """What is read as a secret is, and may be seen by everybody."""

    @classmethod
    def kept_from_others(cls) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Store:
    """Where something is published: a folder, or `s3://bucket/prefix`."""

    url: str

    @classmethod
    def from_node(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        text = reader.value(node, str, at)
        if text is BAD:
            return BAD
        scheme, separator, rest = text.partition("://")
        if not separator:
            return cls(str((reader.folder / Path(text).expanduser()).absolute()))
        if scheme != "s3" or not rest.strip("/"):
            return reader.wrong(
                node, f"{at}: {text!r} is no place", "write a folder or s3://BUCKET/PREFIX"
            )
        return cls(text)

    @property
    def bucket(self) -> str:
        """The bucket; empty for a folder."""
        return self.url[5:].partition("/")[0] if self.url.startswith("s3://") else ""

    @property
    def prefix(self) -> str:
        return self.url[5:].partition("/")[2].strip("/")


@dataclass(frozen=True, slots=True)
class StatePlace:
    """Where state is kept: a file, or a server by its URI, which may hold a password."""

    place: Path | Dsn
    source: Path | None = None
    """The file that the URI stands in."""

    @classmethod
    def from_node(cls, reader: Reader, node: yaml.Node, at: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            secret = Secret.from_node(reader, node, at)
            made = BAD if secret is BAD else cls._dsn(reader, node, secret.value, at)
            if made is BAD or not secret.source.startswith("file:"):
                return made
            return replace(made, source=reader.located(node, secret.source[5:], at))
        text = reader.value(node, str, at)
        if text is BAD:
            return BAD
        if "://" not in text:
            path = reader.value(node, Path, at)
            return BAD if path is BAD else cls(path)
        made = cls._dsn(reader, node, text, at)
        if made is not BAD and made.place.has_password:
            reader.warn(node, f"{at}: a password stands in the file", 'use {from: "file:PATH"}')
        return made

    @classmethod
    def _dsn(cls, reader: Reader, node: yaml.Node, text: str, at: str) -> Any:
        cure = "write a path, or postgresql://USER@HOST:PORT/DATABASE"
        if not text.startswith(SCHEMES):
            return reader.wrong(node, f"{at}: neither a file nor a PostgreSQL URI", cure)
        try:
            dsn = Dsn.parse(text)
        except ValueError as error:
            return reader.wrong(node, f"{at}: {error}", cure)
        if dsn.unproven:
            message = f"{at}: {dsn.unproven} does not prove who answers"
            reader.warn(node, message, "use sslmode=verify-full and sslrootcert=FILE")
        return cls(dsn)


def _reason(error: Exception) -> str:
    return (error.strerror or "error") if isinstance(error, OSError) else "it is not UTF-8"
