# SPDX-License-Identifier: GPL-3.0-or-later
"""Both logins of a session: the client's at the gateway, and the gateway's own at the target."""

from gateway.protocols.postgresql.greeter import PostgresGreeter
from gateway.protocols.postgresql.signin import PostgresSignin, cancel_request

__all__ = ["PostgresGreeter", "PostgresSignin", "cancel_request"]
