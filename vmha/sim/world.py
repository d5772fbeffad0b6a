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

import asyncio
from collections.abc import Sequence
from typing import Any

from vmha.sim.exporter import Lie
from vmha.sim.history import Fact, History, Refused
from vmha.sim.network import Plane
from vmha.sim.observer import Books, Guest, SeenEvent
from vmha.sim.scenario import Act, Scenario
from vmha.sim.settling import LONG_S, Settling, Unsettled
from vmha.sim.site import Site
from vmha.sim.timeloop import VirtualLoop

__all__ = ["Books", "Guest", "SeenEvent", "Unsettled", "World"]

LAST_WORDS = 30
"""Rounds of the loop in which killed tasks end."""


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
        self.history.clock = lambda: self.t
        self._zero_s: float | None = None
        self._site = Site(loop, scenario, self.history)
        self._observer = self._site.observer

    @property
    def events(self) -> list[SeenEvent]:
        """See the class."""
        return self._observer.events

    @property
    def t(self) -> float:
        """Virtual seconds since the start; negative while the cluster settles."""
        return self.loop.time() - (LONG_S if self._zero_s is None else self._zero_s)

    async def settle(self) -> None:
        """Register cluster, hosts and VMs; run until agents are leased, the inventory is in and LEARNING is over.

        Protection is as the scenario says then, and the instant of its return is t = 0.

        Raises:
            Unsettled: It does not come to rest; says what is missing.
        """
        await Settling(self._site).run()
        self._zero_s = self.loop.time()
        self._observer.begin(self._zero_s)

    async def close(self) -> None:
        """End every process and give the sources of randomness back."""
        rounds = 0
        while self._site.end() and rounds < LAST_WORDS:
            rounds += 1
            await asyncio.sleep(0)
        self._site.give_back()

    async def perform(self, act: Act) -> None:
        """Do an entry of the timeline.

        Raises:
            Refused: It was refused.
        """
        await getattr(self, act.do)(**self._arguments(act))

    # What is

    def guests(self) -> list[Guest]:
        """Every domain on every host, also where one VM is on two; by VM and host."""
        return self._observer.guests()

    async def books(self) -> Books:
        """What the store holds."""
        return await self._observer.books()

    # Hosts

    async def crash(self, *, host: str) -> None:
        """It loses power, with everything on it. A dead host: nothing happens."""
        self._site.host(host).power_off("crash")

    async def boot(self, *, host: str) -> None:
        """It comes up with a new boot id, and agent, exporter and libvirt with it. A running host: nothing happens."""
        self._site.host(host).power_on()

    async def reboot(self, *, host: str, down_s: float) -> None:
        """crash, and boot after down_s, unless it has been booted by then; returns at once."""
        rebooted = self._site.host(host)
        rebooted.power_off("reboot")
        boots = rebooted.machine.boots

        def boot() -> None:
            if rebooted.machine.boots == boots:
                rebooted.power_on()

        self.loop.call_later(down_s, boot, context=self._site.wire.context)

    async def agent_stop(self, *, host: str) -> None:
        """Its agent's process is killed; the host is up."""
        self._site.host(host).agent_kill()

    async def agent_start(self, *, host: str) -> None:
        """Its agent starts, with the state file of this boot."""
        self._site.host(host).agent_start()

    async def exporter_stop(self, *, host: str) -> None:
        """Its exporter refuses connections."""
        self._site.host(host).exporter_up = False

    async def exporter_start(self, *, host: str) -> None:
        """Its exporter answers."""
        self._site.host(host).exporter_up = True

    async def hypervisor_hang(self, *, host: str) -> None:
        """Its libvirt answers nobody; guests run on."""
        self._site.host(host).hypervisor.hang(hung=True)

    async def hypervisor_resume(self, *, host: str) -> None:
        """Its libvirt answers."""
        self._site.host(host).hypervisor.hang(hung=False)

    async def goodbye(self, *, host: str) -> None:
        """Its agent announces a shutdown; the host stays up."""
        if not self._site.host(host).goodbye():
            raise Refused("AGENT_DOWN", f"no agent runs on {host}")

    async def clock_rate(self, *, host: str, rate: float) -> None:
        """Its clock shows `rate` seconds in a second."""
        self._site.host(host).machine.clock.rate = rate

    async def liar(self, *, host: str, says: str, of: Sequence[str] = ()) -> None:
        """Its probes say of these hosts that they are down or up, whatever they saw; "truth" ends that."""
        self._site.host(host).lie = None if says == "truth" else Lie(says, frozenset(of))

    # Network

    async def isolate(self, *, hosts: Sequence[str], plane: Plane) -> None:
        """Cut each of these hosts from everything on a plane (all, management, peers)."""
        self._site.network.isolate(hosts, plane)

    async def heal(self, *, hosts: Sequence[str], plane: Plane) -> None:
        """End what cuts these hosts on a plane; on all planes also their links' losses and their part in a partition."""
        self._site.network.heal(hosts, plane)

    async def partition(self, *, sides: Sequence[Sequence[str]]) -> None:
        """Those in different sides do not reach each other; the newest partition replaces the one before."""
        self._site.network.partition(sides)

    async def heal_all(self) -> None:
        """End every isolation, partition and loss."""
        self._site.network.heal_all()

    async def link(self, *, from_: str, to: str, loss: float) -> None:
        """Lose this share of what goes one way."""
        self._site.network.link(from_, to, loss)

    # Management

    async def manager_crash(self, *, i: int | str | None = None) -> None:
        """Kill a replica (its number, or "all"; None: the leader)."""
        for manager in self._site.chosen(i):
            manager.kill()

    async def manager_start(self, *, i: int | str | None = None) -> None:
        """Start a replica ("all" and None: all that are down)."""
        for manager in self._site.managers if i in {None, "all"} else self._site.chosen(i):
            manager.start()

    async def evac_crash(self) -> None:
        """Kill the evacuator."""
        self._site.evacuator.kill()

    async def evac_start(self) -> None:
        """Start the evacuator."""
        self._site.evacuator.start()

    async def store_down(self) -> None:
        """Redis refuses connections; what it holds stays."""
        self._site.redis.stop()
        self.history.note(Fact.STORE_DOWN)

    async def store_up(self) -> None:
        """Redis answers."""
        if self._site.redis.down:
            self._site.redis.start()
            self.history.note(Fact.STORE_UP)

    async def store_flush(self) -> None:
        """FLUSHALL."""
        self._site.redis.flush()
        self.history.note(Fact.STORE_LOST)

    async def fence_fail(self, *, host: str) -> None:
        """Its fence device answers nobody."""
        self._site.fence_failing.add(host)

    async def fence_heal(self, *, host: str) -> None:
        """Its fence device answers."""
        self._site.fence_failing.discard(host)

    # Operators

    async def ha_enable(self) -> None:
        """EnableCluster."""
        await self._site.operator.protection(on=True)

    async def ha_disable(self) -> None:
        """DisableCluster."""
        await self._site.operator.protection(on=False)

    async def maintenance_on(self, *, host: str) -> None:
        """StartHostMaintenance."""
        await self._site.operator.maintenance(host, on=True)

    async def maintenance_off(self, *, host: str) -> None:
        """EndHostMaintenance."""
        await self._site.operator.maintenance(host, on=False)

    async def drain(self, *, host: str) -> None:
        """StartHostDrain."""
        await self._site.operator.drain(host)

    async def confirm_off(self, *, host: str) -> None:
        """ConfirmHostOff with the host's present fence epoch."""
        await self._site.operator.confirm_off(host)
        self.history.note(Fact.OFF_BY_OPERATOR, host=host)

    # Guests, as virsh on their present host

    async def vm_pause(self, *, vm: str) -> None:
        """virsh suspend."""
        await self._site.virsh.pause(vm)

    async def vm_resume(self, *, vm: str) -> None:
        """virsh resume."""
        await self._site.virsh.resume(vm)

    async def vm_stop(self, *, vm: str) -> None:
        """virsh shutdown; the agent reports it, and the desired state follows."""
        await self._site.virsh.stop(vm)

    async def vm_start(self, *, vm: str, host: str) -> None:
        """virsh start (and define, where it is not) on a host."""
        await self._site.virsh.start(vm, host)

    async def vm_migrate(self, *, vm: str, host: str) -> None:
        """virsh migrate --live --persistent --undefinesource; takes migrate_s, and returns at once."""
        await self._site.virsh.migrate(vm, host)

    async def vm_ha(self, *, vm: str, ha: bool) -> None:
        """virsh metadata: vmha:instance ha="on" or "off"."""
        await self._site.virsh.set_ha(vm, ha)

    async def hot_add(self, *, vm: str, vcpus: int = 0, memory_mib: int = 0) -> None:
        """virsh setvcpus --live and attach-device --live of a memory module."""
        await self._site.virsh.hot_add(vm, vcpus, memory_mib)

    async def vm_delete(self, *, vm: str) -> None:
        """virsh destroy and undefine."""
        await self._site.virsh.delete(vm)

    async def fail_starts(self, *, host: str, count: int, vm: str | None = None) -> None:
        """The next `count` starts there fail (of this VM, or of any); 0 ends that."""
        self._site.host(host).hypervisor.fail("start", count, self._site.uuid_or_none(vm))

    async def fail_migrations(self, *, host: str, count: int, vm: str | None = None) -> None:
        """The next `count` migrations to it fail (of this VM, or of any); 0 ends that."""
        self._site.host(host).hypervisor.fail("migrate", count, self._site.uuid_or_none(vm))

    def _arguments(self, act: Act) -> dict[str, Any]:
        return {"from_" if name == "from" else name: value for name, value in act.arguments.items()}
