"""`vmha evac`: puts the evacuator together, resumes what is unfinished, serves, and drains."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import structlog

from vmha.clock import Clock, SystemClock
from vmha.config import EvacSettings
from vmha.errors import VmhaError
from vmha.evac.admission import GrpcAdmission
from vmha.evac.explaining import Explaining
from vmha.evac.fence_check import FenceCheck
from vmha.evac.fencing import FenceAgents
from vmha.evac.hypervisor import HypervisorFactory, RemoteHypervisor
from vmha.evac.metrics import Metrics
from vmha.evac.operations import Edges
from vmha.evac.orders import Orders
from vmha.evac.runner import RunnerSettings
from vmha.evac.service import SERVICE_NAME, EvacuationServicer
from vmha.evac.supervisor import Supervisor
from vmha.metrics import start_metrics
from vmha.rpc.server import MakeServer, Server, Servicer, Serving
from vmha.store import Store, connect
from vmha.v1.evacuation_service_pb2_grpc import add_EvacuationServiceServicer_to_server

RESUME_RETRY_S = 1.0
STORE_CHECK_S = 2.0
"""How often Redis is looked at for the health status, and unfinished evacuations for a runner."""
HYPERVISORS_KEPT = 1024


class Hypervisors:
    """One RemoteHypervisor for each libvirt URI, made when it is first asked for."""

    def __init__(self, make: HypervisorFactory) -> None:
        self._make = make
        self._known: dict[str, RemoteHypervisor] = {}

    def __call__(self, uri: str) -> RemoteHypervisor:
        """The hypervisor behind a URI."""
        if uri not in self._known:
            if len(self._known) >= HYPERVISORS_KEPT:
                self._known.pop(next(iter(self._known))).close()
            self._known[uri] = self._make(uri)
        return self._known[uri]

    def close(self) -> None:
        """Lets all connections go."""
        for hypervisor in self._known.values():
            hypervisor.close()


class PlanLocks:
    """One lock for each cluster: two evacuations of a cluster never plan for the same room at once."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    def __call__(self, cluster_id: str) -> asyncio.Lock:
        """The lock of a cluster."""
        return self._locks.setdefault(cluster_id, asyncio.Lock())


def search_path(settings: EvacSettings, environment: Mapping[str, str] = os.environ) -> str:
    """Where fence agents are looked for: the configured folders, then PATH."""
    return os.pathsep.join([*(str(folder) for folder in settings.fence_agent_dirs), environment.get("PATH", "")])


def libvirt_factory(*, unsafe: bool = False) -> HypervisorFactory:
    """The real hypervisors. libvirt is loaded only here: simulated ones need none."""
    from vmha.evac.libvirt_hypervisor import LibvirtHypervisor  # noqa: PLC0415

    return partial(LibvirtHypervisor, unsafe=unsafe)


async def run(
    settings: EvacSettings,
    *,
    clock: Clock | None = None,
    stop: asyncio.Event | None = None,
    ready: asyncio.Future[int] | None = None,
) -> None:
    """Serves until `stop` is set (without one: until SIGTERM or SIGINT), then drains. `ready` gets the port.

    Raises:
        VmhaError: It cannot listen, or the store's settings do not allow it to run (STORE_EVICTS).
    """
    clock = clock or SystemClock()
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        store = connect(settings.redis_url)
        stack.push_async_callback(store.close)
        admission = GrpcAdmission(settings.tls)
        stack.push_async_callback(admission.close)
        hypervisors = Hypervisors(libvirt_factory(unsafe=settings.migrate_unsafe))
        stack.callback(hypervisors.close)
        metrics = Metrics()
        stack.callback(start_metrics(settings.metrics_listen, metrics.registry))
        device = FenceAgents(search_path(settings))
        edges = Edges(store=store, hypervisor=hypervisors, admission=admission, device=device, plan_lock=PlanLocks())
        await Evacuator(settings, edges, clock, metrics).serve(stop, ready)


class Evacuator:
    """One running evacuator. `make_server` makes what it is served by; None: a gRPC server, as the settings say."""

    def __init__(
        self, settings: EvacSettings, edges: Edges, clock: Clock, metrics: Metrics, make_server: MakeServer | None = None
    ) -> None:
        self._settings, self._store = settings, edges.store
        self._supervisor = Supervisor(edges, _ways(settings), clock, metrics)
        fences = FenceCheck(self._store, edges.device, clock)
        self._explaining = Explaining(self._store)
        orders = Orders(self._store, self._supervisor)
        servicer = EvacuationServicer(self._store, orders, fences, self._explaining, clock)
        self._server: Serving = (make_server or self._grpc_server)(
            [(add_EvacuationServiceServicer_to_server, servicer, SERVICE_NAME)]
        )

    def _grpc_server(self, servicers: Sequence[Servicer]) -> Server:
        settings = self._settings
        return Server(servicers, settings.listen, tls=settings.tls, reflection=settings.reflection)

    async def serve(self, stop: asyncio.Event, ready: asyncio.Future[int] | None = None) -> None:
        """Serves until `stop` is set, then drains. `ready` gets the port.

        Raises:
            VmhaError: It cannot listen, or the store's settings do not allow it to run (STORE_EVICTS).
        """
        try:
            await _serve(self._server, self._store, self._supervisor, stop, ready, self._settings.drain_grace_s)
        finally:
            self._explaining.close()


def _ways(settings: EvacSettings) -> RunnerSettings:
    return RunnerSettings(
        runner_ttl_s=settings.runner_ttl_s,
        pending_retry_s=settings.pending_retry_s,
        drain_s=settings.drain_grace_s,
        migrate_timeout_s=settings.migrate_timeout_s,
        stop_grace_s=settings.stop_grace_s,
    )


async def _serve(
    server: Serving,
    store: Store,
    supervisor: Supervisor,
    stop: asyncio.Event,
    ready: asyncio.Future[int] | None,
    drain_s: float,
) -> None:
    log = structlog.get_logger("vmha.evac")
    port = await server.start()
    log.info("serving", port=port)
    if ready is not None:
        ready.set_result(port)
    watch = asyncio.create_task(_watch_store(server, store, supervisor), name="store watch")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([watch, stopped], return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()
    finally:
        watch.cancel()
        stopped.cancel()
        await asyncio.gather(watch, stopped, return_exceptions=True)
        log.info("draining")
        await server.set_serving(False)
        await supervisor.drain()
        await server.stop(drain_s)


async def _watch_store(server: Serving, store: Store, supervisor: Supervisor) -> None:
    """Tells health whether the store answers, and takes up what is unfinished: at the start, and when another replica died."""
    log = structlog.get_logger("vmha.evac")
    checked, serving = False, True
    while True:
        try:
            if not checked:
                await store.check_policy()
                checked = True
            await supervisor.resume()
            answers = True
        except VmhaError as error:
            if error.reason == "STORE_EVICTS":
                raise
            log.warning("store_away", reason=error.reason, error=error.message)
            answers = False
        if answers is not serving:
            await server.set_serving(answers)
            serving = answers
        await asyncio.sleep(STORE_CHECK_S if answers else RESUME_RETRY_S)
