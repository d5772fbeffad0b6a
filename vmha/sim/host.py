"""A simulated hypervisor host: power, kernel, libvirt, exporter, and the real agent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from vmha import __version__
from vmha.agent.app import Edges, Parts, Records
from vmha.agent.cluster_copy import ClusterCopy
from vmha.agent.departures import Departures
from vmha.agent.lease_events import GuardState
from vmha.agent.metrics import Metrics
from vmha.agent.service import SERVICE_NAME
from vmha.agent.state import State
from vmha.agent.state_file import MemoryFile
from vmha.config import AgentSettings
from vmha.facts import HostFacts
from vmha.sim.exporter import Lie, SimProbe
from vmha.sim.history import Fact, History
from vmha.sim.hypervisor import SimHypervisor
from vmha.sim.hypervisor_ports import SimLocalHypervisor
from vmha.sim.network import Network
from vmha.sim.process import Machine, Process
from vmha.sim.rpc import SimChannel
from vmha.sim.rpc_server import SimServer
from vmha.sim.scenario import HostSpec
from vmha.sim.storage import TPM, SimExports, SimStorage
from vmha.sim.wire import Wire
from vmha.v1.agent_service_pb2_grpc import AgentServiceStub, add_AgentServiceServicer_to_server
from vmha.v1.manager_service_pb2_grpc import ManagerServiceStub

AGENT_PORT: Final = 7401
RESTART_S: Final = 2.0
"""systemd starts an agent again that ended with an error."""


@dataclass(slots=True)
class Environment:
    """What a host stands in. `managers`: where managers listen; `exports`: the storage that all hosts mount."""

    wire: Wire
    network: Network
    history: History
    managers: tuple[str, ...]
    exports: SimExports
    hosts: dict[str, SimHost] = field(default_factory=dict)


def facts_of(spec: HostSpec) -> HostFacts:
    """What its libvirt says of it."""
    return HostFacts(
        vcpus=spec.vcpus,
        memory_mib=spec.memory_mib,
        operating_system=spec.os,
        libvirt_version="9.0.0",
        hypervisor_version="7.2.0",
        cpu_model="x86_64 Cascadelake-Server",
        agent_version=__version__,
        storage_pools=("default",),
    )


class _Managers:
    """See `agent.managers.Managers`: connections from this agent."""

    def __init__(self, wire: Wire, process: Process) -> None:
        self._wire, self._process = wire, process

    def connect(self, target: str) -> _Connection:
        """A fresh channel."""
        return _Connection(SimChannel(self._wire, self._process, target), ManagerServiceStub)


class _Peers:
    """See `agent.peers.Peers`: the same to other agents. There are no names here (decision 017)."""

    def __init__(self, wire: Wire, process: Process) -> None:
        self._wire, self._process = wire, process

    def connect(self, _host_id: str, agent_target: str) -> _Connection:
        """A fresh channel."""
        return _Connection(SimChannel(self._wire, self._process, agent_target), AgentServiceStub)


class _Connection:
    def __init__(self, channel: SimChannel, stub: type) -> None:
        self._channel = channel
        self.stub = stub(channel)

    async def close(self) -> None:
        """Give it up."""
        await self._channel.close()


class SimHost:
    """One host.

    Attributes:
        parts: The running agent's parts, for the simulator's own eyes; None without one.
        lie: What its agent says of others, whatever it saw.
    """

    def __init__(self, spec: HostSpec, machine: Machine, hypervisor: SimHypervisor, environment: Environment) -> None:
        self.spec, self.machine, self.hypervisor, self._environment = spec, machine, hypervisor, environment
        self.exporter_up = True
        self.agent: Process | None = None
        self.parts: Parts | None = None
        self.lie: Lie | None = None
        self._stop: asyncio.Event | None = None
        self._shutdown: asyncio.Event | None = None
        self._state = MemoryFile("/run/vmha/agent.json")
        self._marker = MemoryFile("/var/lib/vmha/leased")
        self._copy = MemoryFile("/var/lib/vmha/cluster-copy.binpb")
        self._departures = MemoryFile("/var/lib/vmha/departures.json")
        self._guard = GuardState.EMPTY
        self._fenced = False
        environment.hosts[spec.id] = self
        if not spec.power:
            machine.up = False
            hypervisor.power_off()

    # See exporter.Probed

    @property
    def powered(self) -> bool:
        """It has power."""
        return self.machine.up

    @property
    def libvirt_answers(self) -> bool:
        """Whether its libvirt does."""
        return self.hypervisor.answers

    # Power

    def power_off(self, cause: str) -> bool:
        """It loses power, with everything on it. False: it had none."""
        if not self.machine.up:
            return False
        self.machine.up = False
        self._note(Fact.HOST_DOWN, cause)
        for process in list(self.machine.processes):
            process.kill()
        self.agent = self.parts = None
        self.hypervisor.power_off()
        self._environment.wire.look()
        return True

    def power_on(self) -> bool:
        """It boots, in no time. False: it was up."""
        if self.machine.up:
            return False
        self.machine.up = True
        self.machine.boots += 1
        self._state.remove()
        self.hypervisor.power_on()
        self.exporter_up = True
        self._note(Fact.HOST_UP)
        self._environment.wire.look()
        self.agent_start()
        return True

    # The agent

    def agent_start(self) -> bool:
        """Start it. False: it runs, or the host has no power."""
        if not self.machine.up or self.agent is not None:
            return False
        loop = self._environment.wire.loop
        process = self.agent = Process(loop, self.machine, f"agent/{self.spec.id}")
        process.at_end.append(lambda: self._environment.wire.killed(process))
        self._note(Fact.AGENT_UP)
        task = process.start(self._run(process), "agent")
        task.add_done_callback(lambda ended: self._ended(process, ended))
        return True

    def agent_kill(self) -> bool:
        """kill -9. False: it did not run."""
        process, self.agent, self.parts = self.agent, None, None
        if process is None:
            return False
        process.kill()
        self._note(Fact.AGENT_DOWN)
        return True

    def goodbye(self) -> bool:
        """The host's shutdown begins: its agent says so and ends. False: there is none."""
        if self._stop is None or self._shutdown is None or self.agent is None:
            return False
        self._shutdown.set()
        self._stop.set()
        return True

    async def _run(self, process: Process) -> None:
        environment, host_id = self._environment, self.spec.id
        clock = self.machine.clock
        settings = AgentSettings.model_construct(
            host_id=host_id,
            managers=environment.managers,
            libvirt_uri="sim:///",
            shared_directories=environment.exports.directories,
            tpm_state_directory=TPM,
        )
        metrics = Metrics(clock)
        state = State(self._state, self._marker, host_id, f"{host_id}-boot-{self.machine.boots}")
        edges = Edges(
            SimLocalHypervisor(self.hypervisor, process),
            SimProbe(host_id, environment.network, environment.hosts, process.require_alive, lambda: self.lie),
            _Managers(environment.wire, process),
            _Peers(environment.wire, process),
            SimStorage(environment.exports),
        )
        records = Records(state, ClusterCopy(self._copy, state), Departures(self._departures, state.epoch))
        parts = self.parts = Parts(settings, records, clock, metrics, edges)
        self._watch(parts)
        self._stop, self._shutdown = asyncio.Event(), asyncio.Event()
        servicers = [(add_AgentServiceServicer_to_server, parts.servicer, SERVICE_NAME)]
        server = SimServer(environment.wire, process, f"{host_id}:{AGENT_PORT}", servicers)
        await server.start()
        await parts.serve(self._stop, self._shutdown, _never)
        await server.stop()

    def _ended(self, process: Process, task: asyncio.Task[None]) -> None:
        """The agent ended by itself: after a goodbye, or with an error, as a supervisor sees it."""
        if self.agent is not process:
            return
        error = None if task.cancelled() else task.exception()
        self.agent_kill()
        if error is not None:
            loop = self._environment.wire.loop
            loop.call_exception_handler({"message": f"agent of {self.spec.id} failed", "exception": error})
            loop.call_later(RESTART_S, self.agent_start, context=self._environment.wire.context)

    def _watch(self, parts: Parts) -> None:
        """Writes down what the guard of this host goes through."""
        keeper = parts.keeper
        destroy_all = keeper.destroy_all

        def destroying(reason: str) -> None:
            self._note(Fact.SELF_FENCED)
            destroy_all(reason)

        keeper.destroy_all = destroying
        look = keeper.look

        def looking() -> None:
            look()
            self._look(keeper.lease.state(self.machine.clock.now()))

        keeper.look = looking  # type: ignore[method-assign]

    def _look(self, guard: GuardState) -> None:
        if guard is not self._guard:
            self._guard = guard
            if guard is GuardState.CERTIFIED:
                self._note(Fact.CERTIFIED)

    def _note(self, fact: Fact, cause: str = "") -> None:
        self._environment.history.note(fact, host=self.spec.id, cause=cause)


async def _never() -> bool:
    return False
