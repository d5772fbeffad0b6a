"""The shell round the leadership core, on virtual time and the simulator's Redis: offices begin and end as the lease does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from vmha.errors import NotFound
from vmha.manager.leader_lease import LeaderLease
from vmha.manager.mandate import Mandate
from vmha.model import ClusterConfig
from vmha.sim.clock import SimClock
from vmha.sim.redis_double import SimRedisServer
from vmha.sim.timeloop import VirtualLoop
from vmha.store import Store
from vmha.store.leaders import Candidate, LeaderView

C = "c1"
LEASE_S = 3.0


class JumpingClock(SimClock):
    """Time that passes while nobody runs."""

    ahead_s = 0.0

    def jump(self, seconds: float) -> None:
        self.ahead_s += seconds

    def now(self) -> float:
        return super().now() + self.ahead_s


@dataclass
class Office:
    """Notes what it is told."""

    clock: SimClock
    refuse: int = 0
    takes_s: float = 0.0
    begun: list[Mandate] = field(default_factory=list)
    ended: int = 0
    open: bool = False

    async def begin(self, mandate: Mandate) -> None:
        await asyncio.sleep(self.takes_s)
        if self.refuse:
            self.refuse -= 1
            raise NotFound("CLUSTER_UNKNOWN", "not yet")
        assert not self.open
        self.open = True
        self.begun.append(mandate)

    async def end(self) -> None:
        assert self.open
        assert not self.begun[-1].holds()
        self.open = False
        self.ended += 1

    def insists(self) -> bool:
        return False

    def view(self) -> LeaderView | None:
        return LeaderView() if self.open else None


class Plant:
    """A store and two replicas."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.clock = JumpingClock(loop)
        self.server = SimRedisServer(self.clock.wall)
        self.store = Store(self.server.client())
        self.away = 0
        loop.run_until(self.store.clusters.create(C, ClusterConfig()))
        self.offices = [Office(self.clock), Office(self.clock)]
        self.leases = [self._lease(number) for number in range(2)]

    def _lease(self, number: int) -> LeaderLease:
        candidate = Candidate(holder=f"run-{number}", manager_id=f"m{number}", address=f"10.0.0.{number}:7400")
        return LeaderLease(
            self.store,
            self.clock,
            C,
            candidate,
            LEASE_S,
            self.offices[number],
            store_away=self._store_away,
            dice=random.Random(number),
        )

    def _store_away(self) -> None:
        self.away += 1

    def start(self, number: int) -> None:
        self.loop.run_until(self.leases[number].start())

    def leading(self) -> list[int]:
        return [number for number, office in enumerate(self.offices) if office.open and office.begun[-1].holds()]


@pytest.fixture
def plant() -> Iterator[Plant]:
    loop = VirtualLoop()
    plant = Plant(loop)
    yield plant
    loop.run_until(asyncio.wait_for(_close(plant), 60))
    loop.close()


async def _close(plant: Plant) -> None:
    for lease in plant.leases:
        await lease.close()
    await plant.store.close()


def test_the_first_leads_when_start_returns_and_the_second_knows_it(plant: Plant) -> None:
    """Nothing has to be waited for: the office is begun, or the leader's name is known."""
    plant.start(0)
    plant.start(1)

    assert plant.leading() == [0]
    assert (plant.leases[1].leader.manager_id, plant.leases[1].leader.address) == ("m0", "10.0.0.0:7400")
    assert plant.leases[0].leader.manager_id == "m0"
    assert plant.offices[0].begun[0].settled_s >= plant.clock.now() + LEASE_S


def test_an_hour_of_renewals_is_one_term(plant: Plant) -> None:
    """Nobody else ever leads while renewals come through."""
    plant.start(0)
    plant.start(1)
    plant.loop.run_for(3600.0)

    assert plant.leading() == [0]
    assert (len(plant.offices[0].begun), plant.offices[1].begun) == (1, [])


def test_an_office_that_cannot_begin_is_tried_again(plant: Plant) -> None:
    """The lease is given up meanwhile, each time; the next term may succeed."""
    plant.offices[0].refuse = 2
    plant.start(0)
    assert plant.leading() == []
    plant.loop.run_for(2 * LEASE_S)

    assert plant.leading() == [0]
    assert plant.offices[0].ended == 0


def test_a_lease_lost_while_the_office_begins_ends_it_again(plant: Plant) -> None:
    """Reading all that a leader needs took longer than the lease: it is never open without a mandate for long."""
    plant.offices[0].takes_s = 1.0
    task = plant.loop.create_task(plant.leases[0].start())
    plant.loop.run_for(0.5)
    plant.clock.jump(LEASE_S)
    plant.loop.run_for(0.6)
    assert plant.leading() == []
    plant.offices[0].takes_s = 0.0
    plant.loop.run_for(2 * LEASE_S)

    assert plant.leading() == [0]
    assert len(plant.offices[0].begun) - plant.offices[0].ended == 1
    assert task.done()


def test_without_a_store_the_office_ends_in_time_and_begins_again(plant: Plant) -> None:
    """It ends before the store would let another one in, and a new term begins when the store is back."""
    plant.start(0)
    first = plant.offices[0].begun[0].term
    plant.loop.run_for(0.5)
    plant.server.stop()
    plant.loop.run_for(LEASE_S)
    assert (plant.offices[0].open, plant.offices[0].ended) == (False, 1)
    assert plant.away > 0
    plant.server.start(empty=False)
    plant.loop.run_for(LEASE_S)

    assert plant.leading() == [0]
    assert plant.offices[0].begun[-1].term > first


def test_who_resigns_lets_the_next_begin_at_once(plant: Plant) -> None:
    """Its own office stays open, without a mandate, until it is closed: sessions end in their own time."""
    plant.start(0)
    plant.start(1)
    plant.loop.run_until(plant.leases[0].resign())
    assert plant.leading() == []
    assert plant.offices[0].open
    plant.loop.run_for(LEASE_S / 2 + 0.1)

    assert plant.leading() == [1]
    assert plant.offices[0].open
    plant.loop.run_until(plant.leases[0].close())
    assert not plant.offices[0].open
    plant.loop.run_for(10 * LEASE_S)
    assert plant.leading() == [1]


def test_a_stopped_process_does_not_hold_what_it_held(plant: Plant) -> None:
    """The mandate says no the moment the clock is past it, before any task or timer had its turn."""
    plant.start(0)
    mandate = plant.offices[0].begun[0]
    plant.clock.jump(LEASE_S)

    assert not mandate.holds()
    plant.loop.run_for(LEASE_S / 3 + 0.1)
    assert not plant.offices[0].open


def test_who_asks_while_the_office_begins_is_answered_when_it_has(plant: Plant) -> None:
    """The lease is won before the office can begin: whoever followed it waits for that, and no longer."""
    plant.offices[0].takes_s = 0.4
    plant.loop.create_task(plant.leases[0].start())
    plant.loop.run_for(0.1)
    asked = plant.loop.create_task(plant.leases[0].taken_up(2.0))
    plant.loop.run_for(0.2)
    assert plant.leases[0].held
    assert not asked.done()
    assert plant.leases[0].leader.address == ""  # it sends nobody to itself before it can take them
    plant.loop.run_for(0.2)

    assert asked.result()
    assert plant.leases[0].leader.manager_id == "m0"


def test_who_asks_for_an_office_that_does_not_begin_waits_a_bounded_time(plant: Plant) -> None:
    """It takes too long, the lease goes, or there is none: the answer is no, at the latest when the caller has had enough."""
    plant.offices[0].takes_s = 2.0
    plant.loop.create_task(plant.leases[0].start())
    plant.loop.run_for(0.1)
    short, long = (plant.loop.create_task(plant.leases[0].taken_up(within_s)) for within_s in (0.5, 60.0))
    plant.loop.run_for(0.6)
    assert (short.result(), long.done()) == (False, False)
    plant.loop.create_task(plant.leases[0].resign())
    plant.loop.run_for(0.1)

    assert not long.result()
    assert not plant.loop.run_until(plant.leases[1].taken_up(60.0))


def test_who_waits_for_the_start_is_let_go_by_the_end(plant: Plant) -> None:
    """A lease that is closed before its office has begun never begins one: `start` returns."""
    plant.offices[0].takes_s = 60.0
    started = plant.loop.create_task(plant.leases[0].start())
    plant.loop.run_for(0.1)
    assert not started.done()
    plant.loop.run_until(plant.leases[0].close())
    plant.loop.run_for(0.1)

    assert started.done()
    assert not plant.offices[0].begun
