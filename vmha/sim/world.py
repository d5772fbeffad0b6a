"""A whole cluster in one process: the real manager, evacuator and agents on virtual time, with simulated edges.

    loop = VirtualLoop()
    world = World(loop, scenario, History())
    loop.run_until(world.settle())         # t = 0 is the instant at which this returns
    loop.run_until(world.crash(host="h1"))
    loop.run_for(300.0)
    world.guests()                          # the truth of the simulated hypervisors
    loop.run_until(world.close())

Every `do` of a timeline is a method of the same name, with the fields of `vmha.sim.acts` as keywords (`from` is `from_`). All are
coroutines; those that need no answer from the product are done with their first step. What is refused raises `Refused`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmha.model import VmState
from vmha.sim.history import History
from vmha.sim.scenario import Act, Scenario
from vmha.sim.timeloop import VirtualLoop
from vmha.store.records import EvacuationRecord, EventRecord, HostRecord, VmEntry, VmRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """An event of the product, as it was written to the store. `t`: virtual seconds since the start."""

    t: float
    record: EventRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A domain as its hypervisor has it now. `vm`: the scenario's id, not the UUID."""

    vm: str
    host: str
    state: VmState


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the store holds at one moment, by the scenario's ids; empty after a flush.

    Attributes:
        hosts: By host_id.
        vms: By the scenario's VM id.
        entries: The journal's entry of each VM in each evacuation, oldest first.
    """

    protection: str
    hosts: Mapping[str, HostRecord]
    vms: Mapping[str, VmRecord]
    evacuations: Sequence[EvacuationRecord]
    entries: Mapping[str, Sequence[VmEntry]]


class World:
    """The cluster of a scenario. One World at a time in a process (it replaces the sources of randomness); close it.

    Attributes:
        history: What really happens, from t = 0 on (and the guests that run at 0.0).
        events: Everything that WatchEvents would show, from t = 0 on; a store that is emptied loses nothing here.
    """

    def __init__(self, loop: VirtualLoop, scenario: Scenario, history: History | None = None) -> None:
        self.loop = loop
        self.scenario = scenario
        self.history = history if history is not None else History()
        self.events: list[SeenEvent] = []

    @property
    def t(self) -> float:
        """Virtual seconds since the start; negative while the cluster settles."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Register cluster, hosts and VMs; run until agents are leased, the inventory is in and LEARNING is over.

        Protection is as the scenario says then, and the instant of its return is t = 0.

        Raises:
            Unsettled: It does not come to rest; says what is missing.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """End every process and give the sources of randomness back."""
        raise NotImplementedError

    async def perform(self, act: Act) -> None:
        """Do an entry of the timeline.

        Raises:
            Refused: It was refused.
        """
        raise NotImplementedError

    # What is

    def guests(self) -> list[Guest]:
        """Every domain on every host, also where one VM is on two; by VM and host."""
        raise NotImplementedError

    async def books(self) -> Books:
        """What the store holds."""
        raise NotImplementedError

    # Hosts

    async def crash(self, *, host: str) -> None:
        """It loses power, with everything on it. A dead host: nothing happens."""
        raise NotImplementedError

    async def boot(self, *, host: str) -> None:
        """It comes up with a new boot id, and agent, exporter and libvirt with it. A running host: nothing happens."""
        raise NotImplementedError

    async def reboot(self, *, host: str, down_s: float) -> None:
        """crash, and boot after down_s; returns at once."""
        raise NotImplementedError

    async def agent_stop(self, *, host: str) -> None:
        """Its agent's process is killed; the host is up."""
        raise NotImplementedError

    async def agent_start(self, *, host: str) -> None:
        """Its agent starts, with the state file of this boot."""
        raise NotImplementedError

    async def exporter_stop(self, *, host: str) -> None:
        """Its exporter refuses connections."""
        raise NotImplementedError

    async def exporter_start(self, *, host: str) -> None:
        """Its exporter answers."""
        raise NotImplementedError

    async def hypervisor_hang(self, *, host: str) -> None:
        """Its libvirt answers nobody; guests run on."""
        raise NotImplementedError

    async def hypervisor_resume(self, *, host: str) -> None:
        """Its libvirt answers."""
        raise NotImplementedError

    async def goodbye(self, *, host: str) -> None:
        """Its agent announces a shutdown; the host stays up."""
        raise NotImplementedError

    async def clock_rate(self, *, host: str, rate: float) -> None:
        """Its clock shows `rate` seconds in a second."""
        raise NotImplementedError

    async def liar(self, *, host: str, says: str, of: Sequence[str] = ()) -> None:
        """Its probes say of these hosts that they are down or up, whatever they saw; "truth" ends that."""
        raise NotImplementedError

    # Network

    async def isolate(self, *, hosts: Sequence[str], plane: str) -> None:
        """Cut each of these hosts from everything on a plane (all, management, peers)."""
        raise NotImplementedError

    async def heal(self, *, hosts: Sequence[str], plane: str) -> None:
        """End what cuts these hosts on a plane; on all planes also their links' losses and their part in a partition."""
        raise NotImplementedError

    async def partition(self, *, sides: Sequence[Sequence[str]]) -> None:
        """Those in different sides do not reach each other; the newest partition replaces the one before."""
        raise NotImplementedError

    async def heal_all(self) -> None:
        """End every isolation, partition and loss."""
        raise NotImplementedError

    async def link(self, *, from_: str, to: str, loss: float) -> None:
        """Lose this share of what goes one way."""
        raise NotImplementedError

    # Management

    async def manager_crash(self, *, i: int | str | None = None) -> None:
        """Kill a replica (its number, or "all"; None: the leader)."""
        raise NotImplementedError

    async def manager_start(self, *, i: int | str | None = None) -> None:
        """Start a replica ("all" and None: all that are down)."""
        raise NotImplementedError

    async def evac_crash(self) -> None:
        """Kill the evacuator."""
        raise NotImplementedError

    async def evac_start(self) -> None:
        """Start the evacuator."""
        raise NotImplementedError

    async def store_down(self) -> None:
        """Redis refuses connections; what it holds stays."""
        raise NotImplementedError

    async def store_up(self) -> None:
        """Redis answers."""
        raise NotImplementedError

    async def store_flush(self) -> None:
        """FLUSHALL."""
        raise NotImplementedError

    async def fence_fail(self, *, host: str) -> None:
        """Its fence device answers nobody."""
        raise NotImplementedError

    async def fence_heal(self, *, host: str) -> None:
        """Its fence device answers."""
        raise NotImplementedError

    # Operators

    async def ha_enable(self) -> None:
        """EnableCluster."""
        raise NotImplementedError

    async def ha_disable(self) -> None:
        """DisableCluster."""
        raise NotImplementedError

    async def maintenance_on(self, *, host: str) -> None:
        """StartHostMaintenance."""
        raise NotImplementedError

    async def maintenance_off(self, *, host: str) -> None:
        """EndHostMaintenance."""
        raise NotImplementedError

    async def drain(self, *, host: str) -> None:
        """StartHostDrain."""
        raise NotImplementedError

    async def confirm_off(self, *, host: str) -> None:
        """ConfirmHostOff with the host's present fence epoch."""
        raise NotImplementedError

    # Guests, as virsh on their present host

    async def vm_pause(self, *, vm: str) -> None:
        """virsh suspend."""
        raise NotImplementedError

    async def vm_resume(self, *, vm: str) -> None:
        """virsh resume."""
        raise NotImplementedError

    async def vm_stop(self, *, vm: str) -> None:
        """virsh shutdown; the agent reports it, and the desired state follows."""
        raise NotImplementedError

    async def vm_start(self, *, vm: str, host: str) -> None:
        """virsh start (and define, where it is not) on a host."""
        raise NotImplementedError

    async def vm_migrate(self, *, vm: str, host: str) -> None:
        """virsh migrate --live --persistent --undefinesource; takes migrate_s, and returns at once."""
        raise NotImplementedError

    async def vm_ha(self, *, vm: str, ha: bool) -> None:
        """virsh metadata: vmha:instance ha="on" or "off"."""
        raise NotImplementedError

    async def vm_delete(self, *, vm: str) -> None:
        """virsh destroy and undefine."""
        raise NotImplementedError

    async def fail_starts(self, *, host: str, count: int, vm: str | None = None) -> None:
        """The next `count` starts there fail (of this VM, or of any); 0 ends that."""
        raise NotImplementedError

    async def fail_migrations(self, *, host: str, count: int, vm: str | None = None) -> None:
        """The next `count` migrations to it fail (of this VM, or of any); 0 ends that."""
        raise NotImplementedError

    def _arguments(self, act: Act) -> dict[str, Any]:
        return {"from_" if name == "from" else name: value for name, value in act.arguments.items()}
