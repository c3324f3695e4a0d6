# SPDX-License-Identifier: GPL-3.0-or-later
"""How commands reach a gateway: by its admin socket, or by TRAILGATE_URL and a token."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from gateway.admin.cli.output import Failed, visible

TIMEOUT = 15.0
TOKEN_FILE_CAP = 64 * 1024
LOOPBACK = ("127.0.0.1", "::1", "localhost")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway listens: `base_url`, or the unix socket at `uds`."""

    base_url: str
    uds: str | None = None
    ca_path: str | None = None

    @property
    def shown(self) -> str:
        return f"unix://{self.uds}" if self.uds else self.base_url


class Gateway:
    """Calls of the API. The token is read again for each, since files of tokens are renewed."""

    def __init__(self, place: Place, token: Callable[[], str | None]) -> None:
        self.place = place
        self.token = token
        self._client = _client(place)

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON. Raises Failed: exit code 1 for a refusal, 2 for anything else."""
        token = self.token()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            answer = self._client.request(method, path, headers=headers, json=json, data=form)
        except httpx.HTTPError as error:
            raise Failed(
                f"no gateway answers at {self.place.shown}: {error}",
                "is it running? is TRAILGATE_URL (or --data) right, and TRAILGATE_CA_PATH its CA?",
            ) from None
        if not answer.is_success:
            raise _failed(answer)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise Failed(
                f"what answers at {self.place.shown} is no Trailgate gateway",
                "set TRAILGATE_URL to the gateway's https address",
            ) from None

    def with_token(self, token: str | None) -> Gateway:
        """The same gateway, called as somebody else."""
        return Gateway(self.place, lambda: token)

    def close(self) -> None:
        self._client.close()


def _failed(answer: httpx.Response) -> Failed:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    said = body if isinstance(body, dict) else {}
    detail = said.get("detail") or said.get("error_description") or f"HTTP {answer.status_code}"
    cure = {
        401: "set TRAILGATE_TOKEN or TRAILGATE_TOKEN_FILE to a token that is in force",
        403: "ask someone who may, or use --data DIR on the gateway's own machine",
        404: "check the name or id: trailgate get, grants list, sessions list",
        409: "trailgate get KIND NAME shows who manages an object",
        422: "correct what is named above",
        503: "try again; `trailgate doctor` on the gateway's machine names what is down",
    }.get(answer.status_code, "")
    told = "\n".join([visible(str(detail)), *_mistakes(said.get("errors"))])
    failed = Failed(told, cure, 2 if answer.status_code >= 500 else 1)
    failed.status = answer.status_code  # type: ignore[attr-defined]
    failed.code = str(said.get("error") or "")  # type: ignore[attr-defined]
    return failed


def _mistakes(errors: object) -> list[str]:
    """The mistakes that a problem names, a line each."""
    lines = []
    for one in errors if isinstance(errors, list) else ():
        place = one.get("object") or f"{one.get('file')}:{one.get('line')}"
        cure = f"; {one['cure']}" if one.get("cure") else ""
        lines.append("  " + visible(f"{place}{one.get('pointer') or ''}: {one['detail']}{cure}"))
    return lines


def status_of(failed: Failed) -> int | None:
    """The HTTP status behind a failure; None if the gateway did not answer."""
    return getattr(failed, "status", None)


def _client(place: Place) -> httpx.Client:
    if place.uds is not None:
        transport = httpx.HTTPTransport(uds=place.uds)
        return httpx.Client(base_url="http://gateway", transport=transport, timeout=TIMEOUT)
    loopback = urlsplit(place.base_url).hostname in LOOPBACK
    verify: ssl.SSLContext | bool = True
    if place.ca_path:
        try:
            verify = ssl.create_default_context(cafile=place.ca_path)
        except OSError as error:
            raise Failed(
                f"TRAILGATE_CA_PATH {place.ca_path}: {error}", "name the gateway's CA as a PEM file"
            ) from None
    # A token must not pass a proxy that the environment names for something else.
    return httpx.Client(
        base_url=place.base_url, verify=verify, timeout=TIMEOUT, trust_env=not loopback
    )


def gateway_for(data: Path | None, env: Mapping[str, str] = os.environ) -> Gateway:
    """The gateway named by --data, else by TRAILGATE_URL. Raises Failed.

    Its token is the environment's, else what `trailgate login` keeps for that URL.
    """
    place = place_of(data, env)
    return Gateway(place, lambda: token_in(env) or kept_token(place, env))


def login_file(place: Place, env: Mapping[str, str]) -> Path | None:
    """Where `trailgate login` keeps the token of that gateway; None for an admin socket."""
    if place.uds is not None:
        return None
    state = env.get("XDG_STATE_HOME") or ""
    # The specification has relative paths ignored.
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    name = re.sub(r"[^a-z0-9.-]+", "_", place.base_url.partition("://")[2].lower())
    digest = hashlib.sha256(place.base_url.encode()).hexdigest()[:8]
    return folder / "trailgate" / "logins" / f"{name[:100]}-{digest}"


def kept_token(place: Place, env: Mapping[str, str]) -> str | None:
    """The token of `trailgate login`, if there was one."""
    path = login_file(place, env)
    if path is None or not path.is_file():
        return None
    return token_in({"TRAILGATE_TOKEN_FILE": str(path)})


def place_of(data: Path | None, env: Mapping[str, str]) -> Place:
    if data is not None:
        return _socket_place(str(data / "admin.sock"))
    url = env.get("TRAILGATE_URL", "")
    parts = urlsplit(url)
    if parts.scheme == "unix" and not parts.netloc:
        return _socket_place(parts.path)
    if parts.scheme == "https" and parts.hostname:
        return Place(url.rstrip("/"), ca_path=env.get("TRAILGATE_CA_PATH") or None)
    if parts.scheme == "http" and parts.hostname in LOOPBACK:
        return Place(url.rstrip("/"))
    if url:
        raise Failed(
            f"TRAILGATE_URL {visible(url)}: not a place where a token is safe",
            "use https://HOST:PORT, unix:///PATH, or http:// on loopback",
        )
    raise Failed(
        "which gateway?",
        "set TRAILGATE_URL=https://HOST:PORT, or name a data folder on this machine: --data DIR",
    )


def _socket_place(path: str) -> Place:
    if not Path(path).is_socket():
        raise Failed(
            f"no gateway listens at {visible(path)}",
            "start one: trailgate serve (or try) with that data folder",
        )
    return Place("http://gateway", uds=path)


def token_in(env: Mapping[str, str]) -> str | None:
    """TRAILGATE_TOKEN, or what TRAILGATE_TOKEN_FILE holds now; None without either."""
    if token := env.get("TRAILGATE_TOKEN", "").strip():
        return _whole(token, "TRAILGATE_TOKEN")
    path = env.get("TRAILGATE_TOKEN_FILE")
    if not path:
        return None
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(TOKEN_FILE_CAP).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(
            f"TRAILGATE_TOKEN_FILE {visible(path)}: {getattr(error, 'strerror', 'not a token')}",
            "name a readable file that holds a token and nothing else",
        ) from None
    if not token:
        raise Failed(f"TRAILGATE_TOKEN_FILE {visible(path)} is empty", "write a token into it")
    return _whole(token, f"TRAILGATE_TOKEN_FILE {visible(path)}")


def _whole(token: str, place: str) -> str:
    """A token that a header can carry: else its library would quote it in its complaint."""
    if not all("!" <= character <= "~" for character in token):
        raise Failed(f"{place} holds more than a token", "it must be one word and nothing else")
    return token


def seconds(text: str) -> float:
    """`90`, `90s`, `15m`, `8h`, `2d` in seconds. Raises Failed."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if found is None or int(found[1]) == 0:
        raise Failed(f"{visible(text)!r} is no length of time", "write 90s, 15m, 8h or 2d")
    return float(int(found[1]) * SECONDS[found[2]])
