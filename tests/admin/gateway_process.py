# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway without a proxy, as a process of its own: `python gateway_process.py DATA LEASE`.

LEASE is the longest lease it gives, in seconds. Logs go to standard error, all of them. Prints one
JSON line once it serves: the API's URL, the issuer's URL and its admin secret.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.admin.api.app import build_api
from gateway.admin.api.services import Services
from gateway.admin.api.serving import serve_api
from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.embedded_issuer import EmbeddedIssuer
from gateway.identity.grants import Grants, Limits
from gateway.identity.oidc import Issuer, Issuers
from gateway.logs import configure
from gateway.model import Grant
from gateway.store.grants import StoredGrants
from gateway.store.sqlite import SqliteDatabase


class OneTarget:
    def reachable(self, grant: Grant | None) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "name": "orders",
                "protocol": "postgresql",
                "host": "127.0.0.1",
                "port": 15501,
                "database": "shop",
                "user": "app",
                "own_listener": True,
                "tls": True,
            }
        ]


async def main(data: Path, longest_lease: float) -> None:
    store = await SqliteDatabase.open(data / "store.db")
    limits = Limits(shortest_lease=1.0, longest_lease=longest_lease)
    grants = Grants(StoredGrants(store), limits=limits)
    await grants.start()
    issuer = EmbeddedIssuer()
    provider = await serve_api(issuer.app)
    issuer.url = f"http://127.0.0.1:{provider.port}"
    issuers = Issuers([Issuer("corp", issuer.url, "trailgate")])
    door = await serve_api(lambda scope, receive, send: api(scope, receive, send))
    services = Services(
        TokenAuthenticator(issuers, grants),
        grants,
        issuers,
        url=f"http://127.0.0.1:{door.port}",
        targets=OneTarget(),
        ca_pem="-----BEGIN CERTIFICATE-----\n",
    )
    api = build_api(services)
    await serve_api(build_api(services, admin=True), uds=data / "admin.sock")
    ready = {"url": services.url, "issuer": issuer.url, "secret": issuer.admin_secret}
    print(json.dumps(ready), flush=True)
    await grants.watch()


if __name__ == "__main__":
    configure("debug")
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
