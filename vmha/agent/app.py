"""`vmha agent`: puts the agent together, serves, and stops without touching a guest."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from vmha.agent.admission import Admission
from vmha.agent.autostart import Autostart
from vmha.agent.cluster_copy import COPY_NAME, ClusterCopy
from vmha.agent.departures import DEPARTURES_NAME, Departures
from vmha.agent.guests import Guests
from vmha.agent.hypervisor import LocalHypervisor
from vmha.agent.identity import Identity
from vmha.agent.keeper import Keeper
from vmha.agent.link import LEAVE_WITHIN_S, Link, end_within
from vmha.agent.managers import GrpcManagers, Managers
from vmha.agent.metrics import Metrics
from vmha.agent.ownership import Ownership
from vmha.agent.peers import GrpcPeers, Peers
from vmha.agent.prober import Prober
from vmha.agent.relay import Relay
from vmha.agent.relay_desk import RelayDesk
from vmha.agent.self_fencing import SelfFencing
from vmha.agent.service import SERVICE_NAME, AgentServicer
from vmha.agent.session import Desk
from vmha.agent.state import FILE_NAME, MARKER_NAME, State, read_boot_id
from vmha.agent.state_file import DiskFile
from vmha.agent.storage_keeper import StorageKeeper
from vmha.agent.storage_port import HostStorage, StoragePort
from vmha.agent.vm_locks import VmLocks
from vmha.agent.watchdog_life import LIFE_NAME, WatchdogLife
from vmha.clock import Clock, SystemClock
from vmha.config import AgentSettings
from vmha.log import bound
from vmha.metrics import start_metrics
from vmha.model import GoodbyeReason
from vmha.probe import ExporterProbe, HttpExporterProbe
from vmha.rpc.server import Server
from vmha.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server

SYSTEMCTL_WITHIN_S = 1.0
_log = structlog.get_logger("vmha.agent")


async def run(
    settings: AgentSettings,
    *,
    clock: Clock | None = None,
    hypervisor: LocalHypervisor | None = None,
    probe: ExporterProbe | None = None,
    stop: asyncio.Event | None = None,
    ready: asyncio.Future[int] | None = None,
    host_is_stopping: Callable[[], Awaitable[bool]] | None = None,
) -> None:
    """Serve until `stop` is set (without one: until SIGTERM or SIGINT). `ready` gets the port.

    SIGUSR1, or a systemd that is stopping the system, makes the goodbye HOST_SHUTTING_DOWN. Guests run on whatever happens here.

    Raises:
        VmhaError: It cannot listen, cannot read its boot id, or cannot write its state.
    """
    clock = clock or SystemClock()
    shutdown = asyncio.Event()
    stop = stop or _stop_on_signals(shutdown)
    async with AsyncExitStack() as stack:
        stack.enter_context(bound(host_id=settings.host_id))
        metrics = Metrics(clock)
        records = open_records(settings)
        if probe is None:
            probe = exporter = HttpExporterProbe()
            stack.push_async_callback(exporter.close)
        managers, peers = GrpcManagers(settings.tls), GrpcPeers(settings.tls)
        edges = Edges(hypervisor or _libvirt(settings, metrics), probe, managers, peers, HostStorage())
        agent = Parts(settings, records, clock, metrics, edges)
        stack.callback(start_metrics(settings.metrics_listen, metrics.registry))
        servicers = [(add_AgentServiceServicer_to_server, agent.servicer, SERVICE_NAME)]
        server = Server(servicers, settings.listen, tls=settings.tls, reflection=settings.reflection)
        port = await server.start()
        stack.push_async_callback(server.stop, settings.drain_grace_s)
        _log.info("serving", port=port, incarnation=records.state.incarnation, boot_id=records.state.boot_id)
        if ready is not None:
            ready.set_result(port)
        reason = await agent.serve(stop, shutdown, host_is_stopping or systemd_is_stopping)
        _log.info("stopping", reason=str(reason))


@dataclass(frozen=True)
class Edges:
    """What lies outside the process: each is a Protocol, and the simulator has its own."""

    hypervisor: LocalHypervisor
    probe: ExporterProbe
    managers: Managers
    peers: Peers
    storage: StoragePort


@dataclass(frozen=True)
class Records:
    """What the agent keeps: of this boot, and beyond it."""

    state: State
    copy: ClusterCopy
    departures: Departures


class Parts:
    """The agent, put together."""

    def __init__(self, settings: AgentSettings, records: Records, clock: Clock, metrics: Metrics, edges: Edges) -> None:
        state = records.state
        hypervisor = edges.hypervisor
        locks = VmLocks()
        self.keeper = Keeper(state, clock, metrics, may_lapse=settings.watchdog_device is None)
        shared = tuple(str(path) for path in settings.shared_directories)
        storage = StorageKeeper(edges.storage, settings.host_id, shared, str(settings.tpm_state_directory))
        self.guests = Guests(hypervisor, storage, records.departures, clock, metrics)
        self.prober = Prober(edges.probe, clock, metrics)
        self.autostart = Autostart(self.guests, hypervisor)
        self.ownership = Ownership(state, self.keeper, hypervisor, self.guests, locks)
        self.identity = Identity(
            state=state,
            clock=clock,
            metrics=metrics,
            keeper=self.keeper,
            guests=self.guests,
            copy=records.copy,
            may_destroy=settings.self_fencing,
            watchdog=_watchdog(settings, state.boot_id),
        )
        self.relay, relays = Relay(self.identity, edges.peers), RelayDesk(self.identity)
        self.servicer = AgentServicer(Admission(state, self.keeper, hypervisor, self.guests, locks), relays, self.keeper)
        self.self_fencing = SelfFencing(self.keeper, hypervisor, self.guests, state, clock, metrics)
        self.keeper.ask_peers, self.keeper.destroy_all = self.relay.ask, self._destroy_all
        desk = Desk(self.identity, self.prober, self.guests, self.ownership, self.autostart, relays)
        self.link = Link(desk, settings.managers, edges.managers)

    async def serve(
        self, stop: asyncio.Event, shutdown: asyncio.Event, host_is_stopping: Callable[[], Awaitable[bool]]
    ) -> GoodbyeReason:
        """Do everything until `stop` is set; then say goodbye and why."""
        jobs = {"keeper": self.keeper.run, "guests": self.guests.run, "prober": self.prober.run, "autostart": self.autostart.run}
        tasks = [asyncio.create_task(job(), name=name) for name, job in jobs.items()]
        link = asyncio.create_task(self.link.run(), name="link")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        reason = GoodbyeReason.AGENT_RESTARTING
        try:
            done, _ = await asyncio.wait([*tasks, link, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # none of them ends by itself: what ended it is a fault
            if shutdown.is_set() or await host_is_stopping():
                reason = GoodbyeReason.HOST_SHUTTING_DOWN
            if self.link.say_goodbye(reason):
                await end_within(link, LEAVE_WITHIN_S)
        finally:
            for task in (*tasks, link, stopped):
                task.cancel()
            await asyncio.gather(*tasks, link, stopped, return_exceptions=True)
            await self.ownership.close()
            await self.relay.close()
            await self.self_fencing.close()
        return reason

    def _destroy_all(self, reason: str) -> None:
        self.ownership.revoked()  # what is not started yet will not be
        self.self_fencing.order(reason)


def _watchdog(settings: AgentSettings, boot_id: str) -> WatchdogLife | None:
    return None if settings.watchdog_device is None else WatchdogLife(DiskFile(settings.state_dir / LIFE_NAME), boot_id)


def open_records(settings: AgentSettings) -> Records:
    """The record of this boot, the host's marker, and what outlives the boot.

    Raises:
        InvalidField: The boot id can't be read.
    """
    boot_id, disk = read_boot_id(settings.boot_id_file), settings.marker_dir
    state = State(DiskFile(settings.state_dir / FILE_NAME), DiskFile(disk / MARKER_NAME), settings.host_id, boot_id)
    departures = Departures(DiskFile(disk / DEPARTURES_NAME), state.epoch)
    return Records(state, ClusterCopy(DiskFile(disk / COPY_NAME), state), departures)


async def systemd_is_stopping() -> bool:
    """Whether systemd is taking the system down. False where there is no systemd."""
    try:
        process = await asyncio.create_subprocess_exec(
            "systemctl",
            "is-system-running",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(SYSTEMCTL_WITHIN_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return output.strip() == b"stopping"


def _stop_on_signals(shutdown: asyncio.Event) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def host_shuts_down() -> None:
        shutdown.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, host_shuts_down)
    return stop


def _libvirt(settings: AgentSettings, metrics: Metrics) -> LocalHypervisor:
    # libvirt is loaded only here: a simulated hypervisor needs none.
    from vmha.agent.libvirt_port import LibvirtPort  # noqa: PLC0415

    return LibvirtPort(settings.libvirt_uri, metrics)
