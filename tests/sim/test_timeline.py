"""The timeline: acts at their times, in order, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sim.scenes import raw
from vmha.errors import Aborted
from vmha.sim import scenario, timeline
from vmha.sim.history import Fact, History, Refused
from vmha.sim.scenario import Act
from vmha.sim.timeloop import VirtualLoop


class FakeWorld:
    """Notes what it is asked for."""

    def __init__(self, loop: VirtualLoop, slow_s: float = 0.0) -> None:
        self._loop = loop
        self._slow_s = slow_s
        self.history = History(loop.time)
        self.done: list[tuple[float, str]] = []

    @property
    def t(self) -> float:
        return self._loop.time()

    async def perform(self, act: Act) -> None:
        self.done.append((self.t, act.do))
        if act.do == "drain":
            await asyncio.sleep(self._slow_s)
            raise Aborted("HOST_BUSY", "another drain is being ended")
        if act.do == "vm_migrate":
            raise Refused("NOT_RUNNING", "it does not run")
        if act.do == "vm_pause":
            raise KeyError("a bug")


def perform(*steps: dict[str, Any], slow_s: float = 0.0) -> tuple[FakeWorld, list[timeline.Refusal]]:
    loop = VirtualLoop()
    world = FakeWorld(loop, slow_s)
    try:
        refused = loop.run_until(timeline.perform(scenario.parse(raw(timeline=list(steps))), world))
        assert world.t >= 100
    finally:
        loop.shut_down()
    return world, refused


def test_acts_happen_at_their_times() -> None:
    """Each act is carried out at its instant; the run goes on to the scenario's end."""
    world, refused = perform(
        {"at": 7.25, "do": "heal_all"},
        {"at": 3, "do": "evac_crash"},
        {"at": 3, "do": "evac_start"},
        {"at": 100, "do": "store_up"},
    )

    assert world.done == [(3.0, "evac_crash"), (3.0, "evac_start"), (7.25, "heal_all"), (100.0, "store_up")]
    assert refused == []
    assert [each.cause for each in world.history.of(Fact.ACT)] == [do for _, do in world.done]


def test_a_refused_act_is_told_with_its_reason() -> None:
    """What the product or the nature of things refuses becomes an event, with what it was about."""
    _, refused = perform(
        {"at": 3, "do": "drain", "host": "h2"}, {"at": 4, "do": "vm_migrate", "vm": "vm1", "host": "h2"}, slow_s=2.0
    )

    assert [refusal.event() for refusal in refused] == [
        {"t": 5.0, "do": "drain", "host": "h2", "reason": "HOST_BUSY", "message": "another drain is being ended"},
        {"t": 4.0, "do": "vm_migrate", "vm": "vm1", "host": "h2", "reason": "NOT_RUNNING", "message": "it does not run"},
    ]


def test_an_act_that_waits_keeps_no_other_waiting() -> None:
    """An operator's request that takes long does not move the faults that follow it."""
    world, refused = perform({"at": 3, "do": "drain", "host": "h2"}, {"at": 4, "do": "heal_all"}, slow_s=200.0)

    assert world.done == [(3.0, "drain"), (4.0, "heal_all")]
    assert refused == []


def test_a_bug_of_the_simulator_is_no_refusal() -> None:
    """An exception that says nothing of a refusal ends the run."""
    with pytest.raises(KeyError, match="a bug"):
        perform({"at": 3, "do": "vm_pause", "vm": "vm1"})
