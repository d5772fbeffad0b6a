"""Watches a simulated cluster from outside, without touching it: events, leaders, contact, guests, the store's content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmha.errors import NotFound
from vmha.manager.enablement import protection_state
from vmha.model import VmState
from vmha.sim.history import Fact, History
from vmha.sim.host import SimHost
from vmha.sim.management import SimManager
from vmha.sim.network import Network
from vmha.sim.redis_double import SimRedisServer
from vmha.sim.scenario import Scenario
from vmha.sim.store_tap import TappedRedis
from vmha.sim.timeloop import VirtualLoop
from vmha.store import Store
from vmha.store.records import EvacuationRecord, EventRecord, HostRecord, VmEntry, VmRecord

PAGE = 1_000


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

    protection: str = ""
    hosts: Mapping[str, HostRecord] = field(default_factory=dict)
    vms: Mapping[str, VmRecord] = field(default_factory=dict)
    evacuations: Sequence[EvacuationRecord] = ()
    entries: Mapping[str, Sequence[VmEntry]] = field(default_factory=dict)


class Observer:
    """See the module."""

    def __init__(
        self,
        loop: VirtualLoop,
        scenario: Scenario,
        history: History,
        redis: TappedRedis,
        hosts: Mapping[str, SimHost],
        managers: Sequence[SimManager],
        network: Network,
    ) -> None:
        self._loop, self._scenario, self._history = loop, scenario, history
        self._redis, self._hosts, self._managers, self._network = redis, hosts, managers, network
        self.events: list[SeenEvent] = []
        self._zero_s = loop.time()
        self._cut: set[str] = set()
        self._term = 0
        redis.seen_event = self._event
        redis.seen_leader = self._led
        redis.seen_incident = self._opened
        network.listeners.append(self.look_at_contact)

    def begin(self, zero_s: float) -> None:
        """The run begins: what was before is forgotten, what is now is written down."""
        self._zero_s = zero_s
        self.events.clear()
        self._history.lines.clear()
        for host_id, host in self._hosts.items():
            if not host.powered:
                self._history.note(Fact.HOST_DOWN, host=host_id, cause="off")
        manager, term = self._redis.leader
        self._led(manager, term)
        for guest in self.guests():
            if guest.state in {VmState.RUNNING, VmState.PAUSED}:
                self._history.note(Fact.GUEST_RUNS, vm=guest.vm, host=guest.host, cause="initial")
        self._cut.clear()
        self.look_at_contact()

    @property
    def leader(self) -> SimManager | None:
        """Who wrote the lease last, if it still runs."""
        found = self._manager(self._redis.leader[0])
        return found if found is not None and found.runs else None

    def guests(self) -> list[Guest]:
        """Every domain, by VM and host."""
        found = [
            Guest(vm=host.hypervisor.site.name(domain.vm_id), host=host_id, state=domain.state)
            for host_id, host in self._hosts.items()
            for domain in host.hypervisor.domains.values()
        ]
        return sorted(found, key=lambda guest: (guest.vm, guest.host))

    async def books(self) -> Books:
        """What the store holds, read from a copy: it may be down."""
        wall = self._redis.wall
        copy = SimRedisServer(wall)
        copy.restore(self._redis.snapshot())
        store, cluster_id = Store(copy.client(latency_s=0.0)), self._scenario.cluster.id
        try:
            snapshot = await store.clusters.snapshot(cluster_id)
        except NotFound:
            return Books()
        names = {vm.uuid: vm.id for vm in self._scenario.vms}
        vms = {names.get(vm.vm_id, vm.vm_id): vm for vm in await store.vms.list(cluster_id)}
        evacuations = [e for host in snapshot.hosts for e in await store.evacuations.list(cluster_id, host, offset=0, limit=PAGE)]
        evacuations.sort(key=lambda e: (e.start_time_s, e.evacuation_id))
        entries: dict[str, list[VmEntry]] = {}
        for evacuation in evacuations:
            for entry in await store.evacuations.entries(cluster_id, evacuation.evacuation_id):
                entries.setdefault(names.get(entry.vm_id, entry.vm_id), []).append(entry)
        configs = {host_id: host.config for host_id, host in snapshot.hosts.items()}
        protection = protection_state(snapshot.cluster.ha_enabled, configs).value
        return Books(protection=protection, hosts=snapshot.hosts, vms=vms, evacuations=evacuations, entries=entries)

    def look_at_contact(self) -> None:
        """Writes down which hosts the leader cannot exchange anything with now."""
        leader = self.leader
        for host_id, host in self._hosts.items():
            cut = leader is None or not host.powered or not self._network.carries(host_id, leader.machine.node)
            if cut is not (host_id in self._cut):
                (self._cut.add if cut else self._cut.discard)(host_id)
                self._history.note(Fact.CUT if cut else Fact.JOINED, host=host_id)

    def _event(self, record: EventRecord) -> None:
        self.events.append(SeenEvent(t=self._loop.time() - self._zero_s, record=record))

    def _led(self, manager_id: str, term: int) -> None:
        manager = self._manager(manager_id)
        self._term = term
        if manager is not None:
            self._history.note(Fact.LEADS, manager=manager.number, term=term)
        self.look_at_contact()

    def _opened(self, host_id: str, process: str) -> None:
        holder = self._manager(self._redis.leader[0])
        number = int(process.rpartition("/")[2]) if process.startswith("manager/") else -1
        self._history.note(
            Fact.OPENED,
            host=host_id,
            manager=number,
            term=self._redis.acting_term,
            holder=-1 if holder is None or not self._redis.lease_held else holder.number,
            term_held=self._redis.leader[1],
        )

    def _manager(self, manager_id: str) -> SimManager | None:
        return next((m for m in self._managers if f"manager-{m.number}" == manager_id), None)
