# -*- coding: utf-8 -*-
# Copyright: (c) 2026, the Trailgate authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of a gateway's API with the standard library alone: by https, or by its admin socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from urllib.parse import quote, urlencode, urlsplit

TOKEN_FILE_CAP = 64 * 1024
ANSWER_CAP = 64 * 1024 * 1024
LOOPBACK = ("127.0.0.1", "::1", "localhost")
NO_GATEWAY = "what answers at %s is no Trailgate gateway"
SET_URL = "set url to its address"
CURES = {
    401: "give a token that is in force: the option token, TRAILGATE_TOKEN or TRAILGATE_TOKEN_FILE",
    403: "ask for an access object whose groups you are in, or use the admin socket on the gateway's host: "
    "url: unix:///var/lib/trailgate/admin.sock",
    409: "change it where it is managed, or set adopt: true to take it over",
    412: "somebody changed it meanwhile: look at it again, and give its object.etag as if_match",
    503: "try again; `trailgate doctor` on the gateway's host names what is down",
}

CONNECTION = {
    "url": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 15},
}
"""The argument spec that all modules share."""


class GatewayError(Exception):
    """A call did not succeed: what is wrong and, behind it, the cure. `status` is HTTP's, or None."""

    def __init__(self, message, cure="", status=None, answer=None):
        super().__init__(message + ("; " + cure if cure else ""))
        self.status = status
        self.answer = answer or {}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("gateway", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Gateway:
    """A gateway's API. Options and environment as the modules' documentation has them."""

    def __init__(self, options, env=None):
        self._env = os.environ if env is None else env
        self._options = options
        self.url = options.get("url") or self._env.get("TRAILGATE_URL") or ""
        self._parts = _split(self.url)
        self._more = False
        self._check_url()
        if (options.get("timeout") or 15) < 0:
            raise GatewayError("timeout %s is no length of time" % options["timeout"], "give seconds, 15 for instance")

    def _check_url(self):
        parts = self._parts
        if parts.username is not None or parts.password is not None:
            raise GatewayError("url has a user or a password in it", "take it out, and give the token as token")
        if parts.scheme == "unix" and not parts.netloc and parts.path:
            return
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme == "http" and parts.hostname in LOOPBACK:
            return
        if not self.url:
            raise GatewayError("which gateway?", "set url: https://HOST:PORT, or TRAILGATE_URL")
        raise GatewayError(
            "url %r is no place where a token is safe" % self.url,
            "use https://HOST:PORT, unix:///PATH, or http:// on loopback",
        )

    def get(self, path, query=None):
        """The answer's document, or None where there is nothing of that name."""
        try:
            return self.call("GET", path, query)
        except GatewayError as error:
            if error.status == 404:
                return None
            raise

    def pages(self, path, query=None):
        """Every element of a list that comes in pages."""
        found, asked = [], dict(query or {})
        while True:
            page = self.call("GET", path, asked)
            found.extend(page)
            if not self._more or not page:
                return found
            asked["after"] = page[-1]["name"]

    def call(self, method, path, query=None, body=None, headers=None):
        """One call. Raises GatewayError for any answer but success."""
        sent = {"accept": "application/json"}
        sent.update(headers or {})
        token = self.token()
        if token:
            sent["authorization"] = "Bearer " + token
        data = None
        if body is not None:
            data = json.dumps(body).encode("utf-8")
            sent["content-type"] = "application/json"
        return self._exchange(method, _target(self._parts, path, query), data, sent)

    def readiness(self):
        """What /readyz says; a gateway that is not ready answers too."""
        try:
            said = self.call("GET", "/readyz")
        except GatewayError as error:
            if "checks" not in error.answer:
                raise
            return error.answer
        if not isinstance(said, dict) or "checks" not in said:
            raise GatewayError(NO_GATEWAY % self.url, SET_URL)
        return said

    def post_form(self, path, form):
        """A form, as OAuth has it."""
        sent = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        return self._exchange("POST", _target(self._parts, path, None), urlencode(form).encode("ascii"), sent)

    def _exchange(self, method, target, data, headers):
        connection = self._connection()
        try:
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            self._more = 'rel="next"' in (answer.getheader("link") or "")
            text = answer.read(ANSWER_CAP + 1)
        except ssl.SSLCertVerificationError as error:
            raise GatewayError(
                "the certificate of %s is not trusted: %s" % (self.url, error.verify_message),
                "set ca_path to the CA that signed it; a gateway's own is DATA/ca.pem on its host",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise GatewayError(
                "no gateway answers at %s: %s" % (self.url, error or type(error).__name__),
                "is it running? is url right?",
            ) from None
        finally:
            connection.close()
        return _document(answer.status, text, self.url)

    def _connection(self):
        timeout = self._options.get("timeout") or 15
        parts = self._parts
        if parts.scheme == "unix":
            return _UnixConnection(parts.path, timeout)
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=self._context())

    def _context(self):
        path = self._options.get("ca_path") or self._env.get("TRAILGATE_CA_PATH") or None
        try:
            context = ssl.create_default_context(cafile=path)
        except OSError as error:
            raise GatewayError("ca_path %s: %s" % (path, error), "name the gateway's CA as a PEM file") from None
        if self._options.get("validate_certs") is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def token(self):
        """The caller's token; read again at each call, since files of tokens are renewed."""
        token = self._options.get("token") or self._env.get("TRAILGATE_TOKEN") or self._token_of_file()
        token = (token or "").strip()
        if not all("!" <= character <= "~" for character in token):
            raise GatewayError("the token is more than one word", "give a token and nothing else")
        return token

    def _token_of_file(self):
        path = self._env.get("TRAILGATE_TOKEN_FILE")
        if not path:
            return ""
        try:
            with open(path, encoding="ascii") as file:
                return file.read(TOKEN_FILE_CAP)
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "not a token"
            raise GatewayError("TRAILGATE_TOKEN_FILE %s: %s" % (path, said), "name a readable file") from None


def _split(url):
    """The URL's parts. A wrong one is not repeated: it may hold a password."""
    try:
        parts = urlsplit(url)
        parts.port  # pylint: disable=pointless-statement
    except ValueError as error:
        raise GatewayError("url: %s" % error, "write https://HOST:PORT or unix:///PATH") from None
    return parts


def _target(parts, path, query):
    prefix = "" if parts.scheme == "unix" else parts.path.rstrip("/")
    return prefix + quote(path) + ("?" + urlencode(query) if query else "")


def _document(status, text, url):
    if len(text) > ANSWER_CAP:
        raise GatewayError("%s answered with over %d bytes" % (url, ANSWER_CAP), "narrow what is asked")
    try:
        document = json.loads(text) if text else None
    except ValueError:
        raise GatewayError(NO_GATEWAY % url, SET_URL) from None
    if 200 <= status < 300:
        return document
    said = document if isinstance(document, dict) else {}
    detail = said.get("detail") or said.get("error_description") or "HTTP %d" % status
    told = "".join("\n  " + line for line in map(_mistake, said.get("errors") or ()) if line != detail)
    raise GatewayError(str(detail) + told, CURES.get(status, ""), status, said)


def _mistake(one):
    """One thing that is wrong: the object and the place in it, what it is, and its cure."""
    named, detail = one.get("object") or "", one.get("detail") or ""
    place = named + (one.get("pointer") or "")
    if not place and one.get("file"):
        place = "%s:%s" % (one["file"], one.get("line"))
    told = detail if named and named in detail else ": ".join(part for part in (place, detail) if part)
    return "; ".join(part for part in (told, one.get("cure")) if part)
