"""`vmha manager`: puts the parts together, serves, and goes away in good order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

import structlog

from vmha.clock import Clock, SystemClock
from vmha.config import ManagerSettings
from vmha.errors import VmhaError
from vmha.manager.cluster_service import ClusterService
from vmha.manager.discovery import Discovery
from vmha.manager.evac_client import EvacClient
from vmha.manager.event_service import EventService, EventTails
from vmha.manager.lag import LagGuard
from vmha.manager.manager_service import ManagerService
from vmha.manager.operations import Operations
from vmha.manager.parts import Parts
from vmha.manager.store_watch import StoreWatch
from vmha.metrics import start_metrics
from vmha.probe import ExporterProbe, HttpExporterProbe
from vmha.rpc.channel import open_channel
from vmha.rpc.options import MIB
from vmha.rpc.scalars import duration
from vmha.rpc.server import MakeServer, Server, Servicer
from vmha.store import Store, connect
from vmha.v1 import cluster_service_pb2_grpc, event_service_pb2_grpc, manager_service_pb2_grpc
from vmha.v1 import manager_service_pb2 as ms

MAX_RECEIVE_BYTES: Final = 4 * MIB
"""What the transport takes in. Session messages are refused above 1 MiB, by name."""

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Sessions live long: looking for cycles among them often finds nothing, and stops everything meanwhile."""

ANY_ADDRESS: Final = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - compared, not listened on

_log = structlog.get_logger("vmha.manager")


class Manager:
    """One running replica.

    Args:
        make_server: Makes what it is served by; None: a gRPC server, as the settings say.
        dice: Draws the watch graphs; None: one of its own.
    """

    def __init__(
        self,
        settings: ManagerSettings,
        *,
        store: Store,
        clock: Clock,
        probe: ExporterProbe,
        evacuator: EvacClient,
        make_server: MakeServer | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._lag = LagGuard(clock)
        self._watch = StoreWatch(store)
        parts = Parts(
            store=store,
            clock=clock,
            probe=probe,
            evacuator=evacuator,
            store_watch=self._watch,
            lag=self._lag,
            manager_id=settings.manager_id,
            random=dice or random.Random(),
        )
        self.discovery = Discovery(parts, interval_s=settings.discovery_interval_s, lease_s=settings.leader_lease_s)
        self._tails = EventTails(store)
        self._service = ManagerService(self.discovery)
        self.server = (make_server or self._grpc_server)(self._servicers(clock))
        self._health_tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def _servicers(self, clock: Clock) -> list[Servicer]:
        operations = Operations(self._store, self.discovery, clock)
        events = EventService(self._store, self._tails)
        return [
            (manager_service_pb2_grpc.add_ManagerServiceServicer_to_server, self._service, "vmha.v1.ManagerService"),
            (cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server, ClusterService(operations), "vmha.v1.ClusterService"),
            (event_service_pb2_grpc.add_EventServiceServicer_to_server, events, "vmha.v1.EventService"),
        ]

    def _grpc_server(self, servicers: Sequence[Servicer]) -> Server:
        return Server(
            servicers,
            self._settings.listen,
            tls=self._settings.tls,
            reflection=self._settings.reflection,
            max_receive_bytes=MAX_RECEIVE_BYTES,
        )

    async def start(self) -> int:
        """Listen at once, so that liveness can be asked; then wait for Redis, find the clusters, and serve. Returns the port.

        Raises:
            PreconditionFailed: STORE_EVICTS.
            Unavailable: LISTEN_FAILED.
        """
        port = await self.server.start()
        await self.server.set_serving(False)
        await self._watch.connect()
        self._watch.listen(self._show_health)
        self._lag.start()
        await self.discovery.start(advertised(self._settings, port))
        await self.server.set_serving(self._watch.reachable)
        _log.info("manager serves", listen=self._settings.listen, port=port, clusters=len(self.discovery.loops))
        return port

    async def drain(self, grace_s: float) -> None:
        """Say that this replica is going away, and wait, but not for ever, until its agents have gone elsewhere."""
        self._draining = True
        self._service.draining = True
        await self.server.set_serving(False)
        self._tails.drain()
        goes = ms.ReportHealthResponse(drain=ms.SessionDrain(grace_duration=duration(grace_s)))
        for loop in self.discovery.loops.values():
            for session in loop.sessions.all():
                session.send(goes)
        # Another replica may begin now: what this one still has open is not answered any more.
        await self.discovery.resign()
        try:
            async with asyncio.timeout(grace_s):
                for loop in list(self.discovery.loops.values()):
                    await loop.sessions.wait_empty()
        except TimeoutError:
            _log.info("sessions are cut: they did not end in time")

    async def close(self) -> None:
        """Stop at once. What is in the store stays there, and a successor goes on from it."""
        await self._watch.close()
        await self._lag.close()
        await self.discovery.close()
        await self.server.stop(1.0)
        for task in self._health_tasks:
            task.cancel()

    def _show_health(self, reachable: bool) -> None:
        if not self._draining:
            task = asyncio.create_task(self.server.set_serving(reachable), name="health")
            self._health_tasks.add(task)
            task.add_done_callback(self._health_tasks.discard)


def advertised(settings: ManagerSettings, port: int) -> str:
    """Where others reach this replica: as it is configured, else by the address that it listens on, else by the host's name."""
    if settings.advertise:
        return settings.advertise
    host = settings.listen.rpartition(":")[0]
    return f"{socket.gethostname() if host in ANY_ADDRESS else host}:{port}"


async def run(
    settings: ManagerSettings,
    *,
    clock: Clock | None = None,
    probe: ExporterProbe | None = None,
    started: Callable[[int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> int:
    """Run a manager until SIGTERM or SIGINT, or until `stop` is set. Returns the exit code.

    Args:
        started: Told the port when it serves.
    """
    stop = stop or asyncio.Event()
    _stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        try:
            manager = _compose(stack, settings, clock or SystemClock(), probe)
            port = await _start(manager, stop)
        except VmhaError as error:
            _log.error("manager cannot start", reason=error.reason, message=error.message)
            return 1
        if port is None:
            return 0
        # A full collection would stall the loop for 300 ms at 10,000 sessions: what lives now lives on.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        if started is not None:
            started(port)
        await stop.wait()
        _log.info("manager goes away")
        await manager.drain(settings.drain_grace_s)
    return 0


def _compose(stack: AsyncExitStack, settings: ManagerSettings, clock: Clock, probe: ExporterProbe | None) -> Manager:
    stack.callback(start_metrics(settings.metrics_listen))
    store = connect(settings.redis_url)
    stack.push_async_callback(store.close)
    real_probe = HttpExporterProbe()
    stack.push_async_callback(real_probe.close)
    channel = open_channel(settings.evac_target, settings.tls)
    stack.push_async_callback(channel.close)
    evacuator = EvacClient(channel)
    stack.push_async_callback(evacuator.close)
    manager = Manager(settings, store=store, clock=clock, probe=probe or real_probe, evacuator=evacuator)
    stack.push_async_callback(manager.close)
    return manager


async def _start(manager: Manager, stop: asyncio.Event) -> int | None:
    """Start, unless it is told to stop while it still waits for Redis."""
    starting = asyncio.create_task(manager.start(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await starting if starting.done() else None
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    # A loop of virtual time, or one in another thread, has no signals.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
