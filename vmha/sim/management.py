"""The simulated management plane: processes of the real manager and the real evacuator."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from vmha.config import EvacSettings, ManagerSettings
from vmha.errors import VmhaError
from vmha.evac.admission import GrpcAdmission
from vmha.evac.app import Evacuator, Hypervisors, PlanLocks
from vmha.evac.hypervisor import RemoteHypervisor
from vmha.evac.metrics import Metrics
from vmha.evac.operations import Edges
from vmha.manager.app import Manager
from vmha.manager.evac_client import EvacClient
from vmha.sim.entropy import Entropy
from vmha.sim.exporter import SimProbe
from vmha.sim.fence import SimFence
from vmha.sim.history import Fact, History
from vmha.sim.host import SimHost
from vmha.sim.hypervisor_ports import SimRemoteHypervisor
from vmha.sim.network import Network
from vmha.sim.process import Machine, Process
from vmha.sim.rpc import SimChannel
from vmha.sim.rpc_server import SimServer
from vmha.sim.store_tap import ProcessRedis, TappedRedis
from vmha.sim.wire import Wire
from vmha.store import Store

MANAGER_PORT: Final = 7400
EVAC_TARGET: Final = "evac:7402"
STORE_NODE: Final = "store"
RESTART_S: Final = 2.0
"""systemd starts a service again that ended with an error."""
_URL: Final = "redis://store:6379/0"


@dataclass(slots=True)
class Plane:
    """What the management plane stands in."""

    wire: Wire
    network: Network
    redis: TappedRedis
    history: History
    hosts: dict[str, SimHost]
    entropy: Entropy
    leader_lease_s: float
    fence_failing: set[str]

    def store(self, process: Process) -> Store:
        """The store, as a process reaches it."""
        node = process.node
        return Store(ProcessRedis(self.redis, process, lambda: self.network.exchange(node, STORE_NODE)))

    def fail(self, what: str, error: BaseException) -> None:
        """A process ended with an error of its own."""
        self.wire.loop.call_exception_handler({"message": f"{what} failed", "exception": error})


class Service:
    """A process that can be killed and started; one that ends by itself is started again."""

    def __init__(self, plane: Plane, machine: Machine, name: str) -> None:
        self.plane, self.machine, self.name = plane, machine, name
        self.process: Process | None = None

    @property
    def runs(self) -> bool:
        """Whether it does."""
        return self.process is not None

    def start(self) -> bool:
        """Start it. False: it runs."""
        if self.process is not None:
            return False
        plane = self.plane
        process = self.process = Process(plane.wire.loop, self.machine, self.name)
        process.at_end.append(lambda: plane.wire.killed(process))
        task = process.start(self.run(process), self.name)
        task.add_done_callback(lambda ended: self._ended(process, ended))
        self.note(up=True)
        return True

    def kill(self) -> bool:
        """kill -9. False: it did not run."""
        process, self.process = self.process, None
        if process is None:
            return False
        process.kill()
        self.note(up=False)
        return True

    def run(self, process: Process) -> Coroutine[Any, Any, None]:
        """Does everything that it does."""
        raise NotImplementedError

    def note(self, *, up: bool) -> None:
        """Writes it down."""
        raise NotImplementedError

    def _ended(self, process: Process, task: asyncio.Task[None]) -> None:
        if self.process is not process:
            return
        error = None if task.cancelled() else task.exception()
        self.kill()
        if error is not None and not isinstance(error, VmhaError):
            self.plane.fail(self.name, error)
        self.plane.wire.loop.call_later(RESTART_S, self.start, context=self.plane.wire.context)


class SimManager(Service):
    """A replica of the manager. `running`: its parts, for the simulator's own eyes."""

    def __init__(self, plane: Plane, machine: Machine, number: int) -> None:
        super().__init__(plane, machine, machine.node)
        self.number = number
        self.running: Manager | None = None
        self._runs = 0

    @property
    def target(self) -> str:
        """Where it listens."""
        return manager_target(self.number)

    async def run(self, process: Process) -> None:
        """See `Service`."""
        plane, target = self.plane, self.target
        self._runs += 1
        settings = ManagerSettings.model_construct(
            manager_id=f"manager-{self.number}",
            listen=target,
            advertise=target,
            redis_url=_URL,
            evac_target=EVAC_TARGET,
            leader_lease_s=plane.leader_lease_s,
        )
        manager = self.running = Manager(
            settings,
            store=plane.store(process),
            clock=self.machine.clock,
            probe=SimProbe(process.node, plane.network, plane.hosts, process.require_alive),
            evacuator=EvacClient(SimChannel(plane.wire, process, EVAC_TARGET)),  # type: ignore[arg-type]
            make_server=lambda servicers: SimServer(plane.wire, process, target, servicers),
            dice=plane.entropy.dice(f"manager {self.number} run {self._runs}"),
        )
        await manager.start()
        await asyncio.Event().wait()

    def kill(self) -> bool:
        """See `Service`."""
        self.running = None
        return super().kill()

    def note(self, *, up: bool) -> None:
        """See `Service`."""
        self.plane.history.note(Fact.MANAGER_UP if up else Fact.MANAGER_DOWN, manager=self.number)


class SimEvacuator(Service):
    """The evacuator."""

    async def run(self, process: Process) -> None:
        """See `Service`."""
        plane = self.plane
        settings = EvacSettings.model_construct(listen=EVAC_TARGET, redis_url=_URL)
        edges = Edges(
            store=plane.store(process),
            hypervisor=Hypervisors(lambda uri: self._hypervisor(process, uri)),
            admission=GrpcAdmission(connect=lambda _, target: SimChannel(plane.wire, process, target)),  # type: ignore[arg-type,return-value]
            device=SimFence(process, plane.network, plane.hosts, plane.fence_failing, self._cut),
            plan_lock=PlanLocks(),
        )
        evacuator = Evacuator(
            settings,
            edges,
            self.machine.clock,
            Metrics(),
            make_server=lambda servicers: SimServer(plane.wire, process, EVAC_TARGET, servicers),
        )
        await evacuator.serve(asyncio.Event())

    def note(self, *, up: bool) -> None:
        """See `Service`."""
        self.plane.history.note(Fact.EVAC_UP if up else Fact.EVAC_DOWN)

    def _hypervisor(self, process: Process, uri: str) -> RemoteHypervisor:
        host_id = uri.partition("://")[2].partition("/")[0]
        host, network = self.plane.hosts[host_id], self.plane.network
        return SimRemoteHypervisor(host.hypervisor, process, lambda: network.exchange(process.node, host_id), network.carries)

    def _cut(self, host_id: str) -> None:
        self.plane.hosts[host_id].power_off("fence")


def manager_target(number: int) -> str:
    """Where a replica listens."""
    return f"manager-{number}:{MANAGER_PORT}"


def libvirt_uri(host_id: str) -> str:
    """A host's libvirt."""
    return f"qemu+tcp://{host_id}/system"
