"""The simulated hypervisors' truth: what takes its time, what fails, and what is written down of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.support.hypervisor import FACTS, domain_xml
from vmha.agent.hypervisor import DomainChange
from vmha.errors import Unavailable
from vmha.evac.hypervisor import LockHeld, NotReached, OutcomeUnknown, Refused
from vmha.model import VmState
from vmha.sim.history import Fact, History
from vmha.sim.hypervisor import SimHypervisor, Site
from vmha.sim.hypervisor_ports import SimLocalHypervisor, SimRemoteHypervisor
from vmha.sim.timeloop import VirtualLoop

VM = "11111111-1111-4111-8111-111111111111"
XML = domain_xml("vm1", VM)
T = 60.0


class Process:
    """Lives until a test says otherwise."""

    alive = True

    def require_alive(self) -> bool:
        if not self.alive:
            raise asyncio.CancelledError
        return True


class Rig:
    """Two hosts, an agent on the first, and an evacuator."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.history = History(self.loop.time)
        self.site = Site(loop=self.loop, history=self.history, start_s=1.0, migrate_s=10.0, names={VM: "vm1"})
        self.h1, self.h2 = (SimHypervisor(name, self.site, FACTS) for name in ("h1", "h2"))
        self.reached = True
        self.evac = Process()
        self.remote = SimRemoteHypervisor(self.h1, self.evac, lambda: self.reached)
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that somebody holds on to."""
        self._tasks.append(self.loop.create_task(work))
        return self._tasks[-1]

    def facts(self) -> list[tuple[float, Fact, str, str]]:
        """What was written down: when, what, where, why."""
        return [(line.t, line.fact, line.host, line.cause) for line in self.history.lines]

    def start(self) -> VmState:
        """The evacuator's start on h1."""
        return self.loop.run_until(self.remote.start_paused(VM, XML, T))

    def run_on_h1(self) -> None:
        """The guest runs there from now on."""
        self.h1.place(VM, "vm1", XML, "running")


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.loop.shut_down()


def test_a_start_takes_its_time_and_executes_nothing_until_it_is_admitted(rig: Rig) -> None:
    """The interval of the occupancy begins with the resume, not with the domain."""
    assert rig.start() is VmState.PAUSED
    assert rig.loop.time() == 1.0
    rig.loop.run_for(2.0)
    rig.h1.resume(rig.h1.domains[VM])
    rig.h1.pause(rig.h1.domains[VM])
    rig.loop.run_for(1.0)
    rig.h1.power_off()

    assert rig.facts() == [
        (0.0, Fact.GUEST_CREATED, "h1", "start"),
        (3.0, Fact.GUEST_RUNS, "h1", "start"),
        (4.0, Fact.GUEST_ENDS, "h1", "power"),
    ]


def test_a_start_whose_caller_was_killed_comes_to_its_end(rig: Rig) -> None:
    """A late paused domain is there; nobody was told."""
    task = rig.begin(rig.remote.start_paused(VM, XML, T))
    rig.loop.run_for(0.5)
    rig.evac.alive = False
    task.cancel()
    rig.loop.run_for(1.0)

    assert rig.h1.domains[VM].state is VmState.AWAITING_ADMISSION


def test_a_connection_that_breaks_during_a_start_leaves_its_outcome_unknown(rig: Rig) -> None:
    """The domain comes up all the same."""

    async def start() -> None:
        with pytest.raises(OutcomeUnknown):
            await rig.remote.start_paused(VM, XML, T)

    rig.loop.call_later(0.5, setattr, rig, "reached", False)
    rig.loop.run_until(start())
    assert rig.h1.domains[VM].active

    with pytest.raises(NotReached):
        rig.loop.run_until(rig.remote.state(VM, 5.0))


def test_a_power_loss_during_a_start_leaves_its_outcome_unknown(rig: Rig) -> None:
    """And no guest."""
    rig.loop.call_later(0.5, rig.h1.power_off)
    with pytest.raises(OutcomeUnknown):
        rig.start()

    assert not rig.h1.domains[VM].active


def test_after_a_boot_libvirt_does_not_know_why_a_domain_is_off(rig: Rig) -> None:
    """As the real one. Whoever takes "destroyed" from before it for a user's word never starts the VM again."""
    rig.run_on_h1()
    domain = rig.h1.domains[VM]
    rig.h1.stop(domain, "operator")
    assert domain.reason == "destroyed"
    rig.h1.power_off()
    rig.h1.power_on()

    assert (domain.active, domain.reason) == (False, "unknown")


def test_a_disk_that_is_in_use_elsewhere_refuses_the_start(rig: Rig) -> None:
    """As QEMU's locks do: nothing is left behind, and it is written down. A local disk has no such lock."""
    rig.h2.place(VM, "vm1", XML, "running")
    with pytest.raises(LockHeld):
        rig.start()
    assert VM not in rig.h1.domains
    assert rig.facts()[-1][1:] == (Fact.LOCKED, "h1", "start")

    rig.site.local_disks[VM] = {"h1", "h2"}
    assert rig.start() is VmState.PAUSED


def test_failures_are_counted_down(rig: Rig) -> None:
    """Of one VM, or of any; then starts work again."""
    rig.h1.fail("start", 2, None)
    for _ in range(2):
        with pytest.raises(Refused):
            rig.start()

    assert rig.start() is VmState.PAUSED


def test_a_migration_switches_over_at_one_instant(rig: Rig) -> None:
    """One interval ends and the next begins at the same time; the target's domain did not count before."""
    rig.run_on_h1()
    rig.h1.migrate(rig.h1.domains[VM], rig.h2, lambda _: None)
    rig.loop.run_for(5.0)
    assert not rig.h2.domains[VM].counts
    rig.loop.run_for(5.0)

    assert VM not in rig.h1.domains
    assert rig.h2.domains[VM].state is VmState.RUNNING
    assert rig.facts()[1:] == [(10.0, Fact.GUEST_ENDS, "h1", "migration"), (10.0, Fact.GUEST_RUNS, "h2", "migration")]


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_a_migration_that_loses_an_end_leaves_no_second_guest(rig: Rig, host: str) -> None:
    """The source runs on where it can; the target's half goes away."""
    rig.run_on_h1()
    rig.h1.migrate(rig.h1.domains[VM], rig.h2, lambda _: None)
    rig.loop.call_later(5.0, rig.site.hypervisors[host].power_off)
    rig.loop.run_for(11.0)

    assert rig.h1.domains[VM].counts is (host == "h2")
    assert VM not in rig.h2.domains


def test_a_migration_may_fail(rig: Rig) -> None:
    """fail_migrations of its target: it runs on where it was."""
    rig.run_on_h1()
    rig.h2.fail("migrate", 1, VM)
    rig.h1.migrate(rig.h1.domains[VM], rig.h2, lambda _: None)
    rig.loop.run_for(10.0)

    assert rig.h1.domains[VM].counts
    assert VM not in rig.h2.domains


class Ear:
    """A Watcher that remembers."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def connected(self) -> None:
        self.heard.append("up")

    def disconnected(self) -> None:
        self.heard.append("down")

    def domain_changed(self, vm_id: str, change: DomainChange) -> None:
        self.heard.append(str(change))


def test_a_hung_libvirt_costs_the_connection_and_no_guest(rig: Rig) -> None:
    """Questions end in Unavailable after their time; the kernel still shows and kills processes."""
    rig.run_on_h1()
    ear, local = Ear(), SimLocalHypervisor(rig.h1, Process())
    rig.begin(local.run(ear))
    rig.loop.run_for(1.0)
    rig.h1.hang(hung=True)
    for waited in (10.0, 0.0):
        began = rig.loop.time()
        with pytest.raises(Unavailable):
            rig.loop.run_until(local.domains())
        assert rig.loop.time() - began == waited
    assert rig.loop.run_until(local.alive()) == {VM}
    rig.loop.run_until(local.kill(VM))
    assert rig.loop.run_until(local.alive()) == frozenset()

    rig.h1.hang(hung=False)
    assert ear.heard == ["up", "down", "up"]


def test_a_domain_that_is_being_started_counts_as_alive(rig: Rig) -> None:
    """And destroy ends it before it comes up."""
    local = SimLocalHypervisor(rig.h1, Process())
    rig.begin(local.run(Ear()))
    rig.begin(rig.remote.start_paused(VM, XML, T))
    rig.loop.run_for(0.5)
    assert rig.loop.run_until(local.alive()) == {VM}

    rig.loop.run_until(local.destroy(VM))
    rig.loop.run_for(2.0)
    assert not rig.h1.domains[VM].active
