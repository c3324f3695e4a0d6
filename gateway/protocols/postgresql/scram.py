# SPDX-License-Identifier: GPL-3.0-or-later
"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as a client (RFC 5802, RFC 7677), and SASLprep (RFC 4013).

PBKDF2 is not computed here: the caller does it off the event loop and passes the result.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"
LEAST_ITERATIONS = 4096
"""RFC 7677, section 4: fewer make a captured exchange cheap to guess from."""
_SALT_LIMIT = 1024
_NONCE_LIMIT = 1024


class ScramError(Exception):
    """The server broke the exchange, or did not prove that it knows the password."""


class ScramClient:
    """One exchange: `first()`, `challenged(...)`, `final(salted)`, `verify(...)`, in this order.

    `binding` is the tls-server-end-point value (RFC 5929), None without one; `offered` are the
    mechanisms that the server offered. Raises ScramError when none of them fits.
    """

    def __init__(
        self,
        nonce: bytes,
        offered: tuple[str, ...],
        binding: bytes | None,
        most_iterations: int,
        user: bytes = b"",
    ) -> None:
        plus = MECHANISM_PLUS in offered
        if plus and binding is not None:
            self.mechanism, self._gs2 = MECHANISM_PLUS, b"p=tls-server-end-point,,"
        elif MECHANISM in offered:
            # `y` says that we could bind but saw no PLUS: a server that did offer it then knows
            # that someone in between took it away (RFC 5802, section 6).
            self.mechanism, self._gs2 = MECHANISM, b"n,," if binding is None else b"y,,"
        else:
            raise ScramError(f"the server offers no SCRAM-SHA-256: {', '.join(offered)[:200]}")
        self._binding = binding if self.mechanism == MECHANISM_PLUS and binding else b""
        self._nonce = base64.b64encode(nonce)
        self._most_iterations = most_iterations
        self._bare = b"n=" + user + b",r=" + self._nonce
        self._server_first = b""
        self._combined = b""
        self._server_signature = b""
        self.salt = b""
        self.iterations = 0

    def first(self) -> bytes:
        """client-first-message. PostgreSQL takes the user of the start-up packet, not this one."""
        return self._gs2 + self._bare

    def challenged(self, message: bytes) -> None:
        """Read server-first-message; then `salt` and `iterations` are what PBKDF2 needs."""
        fields = _fields(message, b"rsi")
        combined = fields[0]
        if not combined.startswith(self._nonce) or len(combined) == len(self._nonce):
            raise ScramError("the server's nonce does not extend ours")
        if len(combined) > _NONCE_LIMIT or not all(33 <= byte <= 126 for byte in combined):
            raise ScramError("the server's nonce is malformed")
        self.salt = _decoded(fields[1], "salt")
        if not 1 <= len(self.salt) <= _SALT_LIMIT:
            raise ScramError("the server's salt has an invalid length")
        self.iterations = self._counted(fields[2])
        self._combined, self._server_first = combined, message

    def _counted(self, text: bytes) -> int:
        if not text.isdigit() or len(text) > 10 or text.startswith(b"0"):
            raise ScramError("the server's iteration count is malformed")
        count = int(text)
        if not LEAST_ITERATIONS <= count <= self._most_iterations:
            raise ScramError(
                f"the server asks for {count} iterations, not {LEAST_ITERATIONS} to "
                f"{self._most_iterations}"
            )
        return count

    def final(self, salted: bytes) -> bytes:
        """client-final-message, with the proof; `salted` is SaltedPassword (32 bytes)."""
        client_key = _mac(salted, b"Client Key")
        channel = base64.b64encode(self._gs2 + self._binding)
        without_proof = b"c=" + channel + b",r=" + self._combined
        signed = b",".join((self._bare, self._server_first, without_proof))
        signature = _mac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = _mac(_mac(salted, b"Server Key"), signed)
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, message: bytes) -> None:
        """Check server-final-message: only who knows the password can make its signature."""
        if message.startswith(b"e="):
            raise ScramError("the server refused the proof: " + repr(message[2:100]))
        (signature,) = _fields(message, b"v")
        expected = self._server_signature
        if not expected or not hmac.compare_digest(_decoded(signature, "signature"), expected):
            raise ScramError("the server did not prove that it knows the password")


def _fields(message: bytes, names: bytes) -> list[bytes]:
    """The named attributes, in their order and with nothing before them; extensions may follow."""
    parts = message.split(b",")
    if len(parts) < len(names):
        raise ScramError("a SCRAM message lacks attributes")
    for part, name in zip(parts, names, strict=False):
        if part[:2] != bytes((name, ord("="))):
            raise ScramError(f"a SCRAM message lacks its attribute {chr(name)!r}")
    return [part[2:] for part in parts[: len(names)]]


def _decoded(text: bytes, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ScramError(f"the server's {what} is not base64") from None


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def prepared_password(password: str) -> bytes:
    """SASLprep (RFC 4013) as PostgreSQL applies it: what it prohibits is used unchanged."""
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii():
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c
        for c in password
        if not stringprep.in_table_b1(c) or stringprep.in_table_c12(c)
    )
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not normal or any(map(_prohibited, normal)) or not _one_direction(normal):
        return raw
    return normal.encode("utf-8")


_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _prohibited(character: str) -> bool:
    return any(table(character) for table in _PROHIBITED)


def _one_direction(text: str) -> bool:
    """RFC 3454, section 6: right-to-left text has no left-to-right letters and ends as it began."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    if any(map(stringprep.in_table_d2, text)):
        return False
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
