# SPDX-License-Identifier: GPL-3.0-or-later
"""The one file that wires all parts together: start order, reload, drain and orderly end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvloop
from starlette.applications import Starlette

from gateway.admin.api.app import build_api
from gateway.admin.api.services import Services
from gateway.admin.api.serving import ServeFailed, serve_api
from gateway.config import ConfigError, Objects, Settings, load_objects
from gateway.credentials.master import VaultFailed
from gateway.credentials.rotation.steps import OnStep
from gateway.data_folder import StartFailed, locked
from gateway.declare.declarer import Declarer
from gateway.declare.orders import Rejected
from gateway.declare.outright import cure_of, delete_declared
from gateway.declare.rights import Rights
from gateway.declare.whole import Base
from gateway.identity.authenticator import TokenAuthenticator
from gateway.identity.grants import Grants
from gateway.model import RecordFailed, Refused
from gateway.policy.documents import PolicyError, PolicySet
from gateway.policy.narrowing import complaint
from gateway.proxy.listener import ListenSpec
from gateway.proxy.watched import Watch
from gateway.signals import EndSignals
from gateway.store.interface import StoreFailed
from gateway.store.objects import StoredObjects
from gateway.wiring.in_force import Doors, InForce
from gateway.wiring.own_files import closed_to_objects
from gateway.wiring.parts import (
    Parts,
    PolicyPlace,
    background,
    made,
    server_tls,
)
from gateway.wiring.rotating import rotations

__all__ = ["Gateway", "StartFailed", "running", "serve"]

log = logging.getLogger("trailgate")


class Gateway:
    """A gateway at work. Made by `running`."""

    def __init__(self, settings: Settings, place: PolicyPlace, parts: Parts) -> None:
        self.settings = settings
        self.record_failed = asyncio.Event()
        """Set once nothing can be recorded any more; every session is closed then."""
        self.url = ""
        """Where the API is reached; empty without a TCP listener."""
        self._place = place
        self._parts = parts
        self._doors = Doors(parts.proxy, parts.targets.bound)
        self.declarer = Declarer(
            StoredObjects(parts.store),
            parts.base,
            InForce(parts, self._doors),
            parts.recorder.changes,
            closed=closed_to_objects(settings),
            keeper=parts.custody.vault,
            revision=parts.revision,
        )
        parts.recorder.when_failed(self._record_failed)

    @property
    def objects(self) -> Objects:
        """What is in force: of files and of the store."""
        return self._parts.targets.objects

    @property
    def policies(self) -> PolicySet:
        """What is in force: of files and of the store."""
        return self._parts.policy.policies

    @property
    def grants(self) -> Grants:
        return self._parts.grants

    @property
    def ca_path(self) -> Path:
        """What clients trust the listeners' certificate by."""
        own = self._parts.certificate
        return own.ca_path or own.cert_path

    def port_of(self, target: str) -> int:
        """The port of a target's own listener. Raises KeyError."""
        return self._parts.targets.bound[target][1]

    async def reach(self, name: str) -> None:
        """Sign in at a target and leave again. Raises StartFailed with the cause."""
        target = self.objects.targets[name]
        try:
            pid = await self._parts.proxy.reach(target)
        except Refused as error:
            raise StartFailed(str(error), "check its address, TLS and credential") from error
        self._parts.recorder.noted.write({"event": "reached", "target": name, "pid": pid})

    def _record_failed(self, cause: str) -> None:
        log.critical("nothing can be recorded: the gateway ends", extra={"cause": cause})
        self.record_failed.set()

    # --- listeners -------------------------------------------------------------------------------

    async def open_doors(self) -> None:
        """Listen for clients: the shared listeners, and the targets' own. Raises StartFailed."""
        for protocol, address in self.settings.listeners.items():
            if protocol != "https":
                await self._listen(
                    ListenSpec(protocol, address.host, address.port), f"protocol:{protocol}"
                )
        try:
            (await self._doors.prepare(self.objects.targets.values())).swap()
        except Rejected as error:
            raise StartFailed(str(error), "is another gateway running there?") from error

    async def _listen(self, spec: ListenSpec, name: str) -> None:
        try:
            self._parts.targets.bound[name] = await self._parts.proxy.listen(spec)
        except OSError as error:
            raise StartFailed(
                f"cannot listen on {spec.host}:{spec.port} for {name}: {error.strerror or error}",
                "is another gateway running there? choose another port",
            ) from error

    # --- reload ----------------------------------------------------------------------------------

    async def reload(self) -> bool:
        """Read objects, policies and certificates anew; on any mistake all stays as it was."""
        try:
            objects, warnings = load_objects(self.settings.objects)
            base = Base(objects, self._place.load())
            context = server_tls(self._parts.certificate, "postgresql")
            new = await self.declarer.reload(base)
        except Rejected as error:
            log.error("not reloaded: what was in force stays", extra={"cause": error.told()})
            return False
        except (ConfigError, PolicyError, ValueError, OSError, StoreFailed, RecordFailed) as error:
            log.error("not reloaded: what was in force stays", extra={"cause": str(error)})
            return False
        for warning in warnings:
            log.warning("objects", extra={"cause": str(warning)})
        self._parts.proxy.swap(server_tls=context)
        log.info("reloaded", extra={"targets": len(new.objects.targets)})
        return True


# --- the API -----------------------------------------------------------------------------------


def _services(gateway: Gateway, parts: Parts, url: str) -> Services:
    async def record() -> str | None:
        return "the record has failed" if parts.recorder.failed else None

    async def objects() -> str | None:
        told = "what the store declares is not in force on this node; the log has the cause"
        return told if gateway.declarer.complaint else None

    async def store() -> str | None:
        await parts.store.ping()
        return None

    ca = parts.certificate.ca_path
    return Services(
        authenticator=TokenAuthenticator(parts.issuers, parts.grants),
        grants=parts.grants,
        logins=parts.logins,
        issuers=parts.issuers,
        url=url,
        sessions=parts.sessions,
        targets=parts.targets,
        ready={"record": record, "store": store, "objects": objects},
        metrics=parts.metrics.registry,
        check_details=complaint,
        keeping=parts.keeping,
        declarer=gateway.declarer,
        rights=Rights(lambda: gateway.objects),
        agents=parts.agents,
        signing=parts.signing,
        ca_pem=ca.read_text("utf-8") if ca else "",
        credentials=parts.custody,
        noted=parts.recorder.noted.write,
    )


async def _open_api(gateway: Gateway, parts: Parts, stack: AsyncExitStack, loopback: bool) -> None:
    """The admin socket, and the API on TCP where it is asked for. Raises ServeFailed."""
    settings = gateway.settings
    public: Starlette | None = None
    if settings.https is not None:
        public = build_api(_services(gateway, parts, settings.url))
        context = server_tls(parts.certificate, "http/1.1")
        host, port = settings.https.host, settings.https.port
        serving = await serve_api(public, host=host, port=port, ssl=context)
        gateway.url = settings.url or f"https://{_named(host)}:{serving.port}"
    elif loopback:
        public = build_api(_services(gateway, parts, ""))
        serving = await serve_api(public)
        gateway.url = f"http://127.0.0.1:{serving.port}"
    services = _services(gateway, parts, gateway.url)
    if public is not None:
        stack.push_async_callback(serving.close)
        public.state.services = services  # its address is known only now
    admin = await serve_api(build_api(services, admin=True), uds=settings.data / "admin.sock")
    stack.push_async_callback(admin.close)


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else "localhost" if host == "0.0.0.0" else host


# --- running -----------------------------------------------------------------------------------


@asynccontextmanager
async def running(
    settings: Settings,
    objects: Objects,
    *,
    policy: Path | None = None,
    sandbox: bool = False,
    loopback_api: bool = False,
    watch: Watch | None = None,
    on_step: OnStep | None = None,
    without: Collection[tuple[str, str]] = (),
) -> AsyncIterator[Gateway]:
    """A gateway at work; drained and its record completed at the end. Raises StartFailed.

    `policy` takes the place of the settings' policies; `sandbox` observes by the shipped
    agent-sandbox policy where no `policy` is given; `loopback_api` serves the API on a free port
    of 127.0.0.1; `watch` is told of each decision, `on_step` of each step of a rotation;
    `without`: declared objects, by kind and name, that are deleted before anything is open.
    """
    place = PolicyPlace((policy,) if policy else settings.policies, sandbox and policy is None)
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(locked(settings.data))
            parts = await made(settings, objects, place, stack, watch, without)
            gateway = Gateway(settings, place, parts)
            if without:
                await delete_declared(gateway.declarer, without)
            parts.store.when_changed(lambda topic: gateway.declarer.look_now())
            await stack.enter_async_context(background(gateway.declarer.watch()))
            await stack.enter_async_context(rotations(parts, settings, on_step))
            await _open_api(gateway, parts, stack, loopback_api)
            await gateway.open_doors()
        except PolicyError as error:
            raise StartFailed(
                f"the policies are wrong:\n{error}", "trailgate policy lint"
            ) from error
        except Rejected as error:
            raise StartFailed(error.told(), cure_of(error)) from error
        except (StoreFailed, VaultFailed, ServeFailed, RecordFailed, ValueError, OSError) as error:
            raise StartFailed(str(error)) from error
        yield gateway


def serve(settings: Settings, objects: Objects, without: Collection[tuple[str, str]] = ()) -> bool:
    """Run until SIGTERM or SIGINT; False if the record failed. `without`: as of `running`. Raises
    StartFailed."""
    return uvloop.run(_serve(settings, objects, without))


async def _serve(
    settings: Settings, objects: Objects, without: Collection[tuple[str, str]]
) -> bool:
    loop, signals = asyncio.get_running_loop(), EndSignals()
    async with running(settings, objects, without=without) as gateway:
        reloads: set[asyncio.Task[bool]] = set()

        def reload() -> None:
            task = loop.create_task(gateway.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        log.info("ready", extra={"node": settings.node, "url": gateway.url})
        await signals.wait(gateway.record_failed)
        log.info("draining", extra={"seconds": settings.limits.drain_seconds})
    return not gateway.record_failed.is_set()
