"""Everything that a simulated cluster consists of, put together but not started."""

from __future__ import annotations

from vmha.model import Profile
from vmha.sim.clock import SimClock
from vmha.sim.entropy import Entropy
from vmha.sim.guest_xml import domain_xml
from vmha.sim.history import History
from vmha.sim.host import Environment, SimHost, facts_of
from vmha.sim.hypervisor import SimHypervisor
from vmha.sim.hypervisor import Site as Guests
from vmha.sim.management import EVAC_TARGET, Plane, SimEvacuator, SimManager, manager_target
from vmha.sim.network import Network
from vmha.sim.observer import Observer
from vmha.sim.operator import Operator
from vmha.sim.process import Machine, Process
from vmha.sim.quiet import Silence
from vmha.sim.scenario import Scenario, vm_uuid
from vmha.sim.storage import SimExports
from vmha.sim.store_tap import TappedRedis
from vmha.sim.timeloop import VirtualLoop
from vmha.sim.virsh import Virsh
from vmha.sim.wire import Wire

OPERATOR: str = "operator"
LEADER_LEASE_S = {Profile.STANDARD: 10.0, Profile.FAST: 3.0}
"""Design 11."""
OLDEST_BOOT_S = 1e6


class Site:
    """The cluster of a scenario. Takes over randomness and logs; `give_back` ends that."""

    def __init__(self, loop: VirtualLoop, scenario: Scenario, history: History) -> None:
        self.loop, self.scenario, self.history = loop, scenario, history
        self.entropy = Entropy(scenario.seed)
        self.entropy.take_over()
        self._silence = Silence(lambda text, error: loop.call_exception_handler({"message": text, "exception": error}))
        self._silence.begin()
        host_ids = [host.id for host in scenario.hosts]
        self.network = Network(host_ids, scenario.managers, self.entropy.dice("network"))
        self.wire = Wire(loop, self.network)
        self._boots = self.entropy.dice("clocks")
        self.redis = TappedRedis(SimClock(loop).wall)
        self.fence_failing: set[str] = set(host_ids) if scenario.cluster.fencing == "fails" else set()
        self.guests = Guests(loop=loop, history=history, start_s=scenario.start_s, migrate_s=scenario.migrate_s)
        self.hosts: dict[str, SimHost] = {}
        self._make_hosts()
        plane = Plane(
            wire=self.wire,
            network=self.network,
            redis=self.redis,
            history=history,
            hosts=self.hosts,
            entropy=self.entropy,
            leader_lease_s=LEADER_LEASE_S[scenario.cluster.config.profile],
            fence_failing=self.fence_failing,
        )
        self.managers = [SimManager(plane, self._machine(f"manager/{i}"), i) for i in range(scenario.managers)]
        for manager in self.managers:
            self.wire.addresses[manager.target] = manager.machine.node
        self.evacuator = SimEvacuator(plane, self._machine("evac"), "evac")
        self.wire.addresses[EVAC_TARGET] = "evac"
        self.plane = plane
        self._terminal = Process(loop, self._machine(OPERATOR), OPERATOR)
        self.operator = Operator(self.wire, self._terminal, self.managers, scenario.cluster.id)
        self.virsh = Virsh(scenario, self.hosts, self.network)
        self.observer = Observer(loop, scenario, history, self.redis, self.hosts, self.managers, self.network)

    def host(self, host_id: str) -> SimHost:
        """A host by its id."""
        return self.hosts[host_id]

    def uuid_or_none(self, vm: str | None) -> str | None:
        """A VM's UUID; None for any."""
        return None if vm is None else vm_uuid(vm)

    def chosen(self, which: int | str | None) -> list[SimManager]:
        """One replica by its number, "all" of them, or the leader (None)."""
        if which == "all":
            return self.managers
        if which is None:
            leader = self.observer.leader
            return [manager for manager in self.managers if manager is leader]
        return [self.managers[int(which)]]

    def end(self) -> bool:
        """Every process dies, and its tasks are cancelled. Returns whether there were any left."""
        for machine in self.wire.machines.values():
            for process in list(machine.processes):
                process.die()
        tasks = [task for task in self.loop.living() if task.owner is not None]
        for task in tasks:
            task.cancel()
        return bool(tasks)

    def give_back(self) -> None:
        """Randomness and logs are the real ones again."""
        self._silence.end()
        self.entropy.give_back()

    def _make_hosts(self) -> None:
        targets = tuple(manager_target(i) for i in range(self.scenario.managers))
        environment = Environment(
            wire=self.wire,
            network=self.network,
            history=self.history,
            managers=targets,
            exports=SimExports(tpm=self.scenario.cluster.vtpm_state_shared),
            hosts=self.hosts,
        )
        for spec in self.scenario.hosts:
            hypervisor = SimHypervisor(spec.id, self.guests, facts_of(spec))
            SimHost(spec, self._machine(spec.id), hypervisor, environment)
            self.wire.addresses[f"{spec.id}:7401"] = spec.id
        for vm in self.scenario.vms:
            self.guests.names[vm.uuid] = vm.id
            if vm.root_disk == "local":
                self.guests.local_disks[vm.uuid] = {vm.host}
            if vm.image:
                self.guests.images.add(vm.image)
            if vm.volume_host:
                self.guests.volume_hosts[vm.uuid] = vm.volume_host
            self.hosts[vm.host].hypervisor.place(vm.uuid, vm.id, domain_xml(vm), vm.state)

    def _machine(self, node: str) -> Machine:
        clock = SimClock(self.loop, start_s=self._boots.uniform(1e3, OLDEST_BOOT_S))
        machine = self.wire.machines[node] = Machine(node, clock)
        return machine
