"""A drain whose evacuator is killed at each of its writes: the next one ends it, with one copy of the VM and nothing left."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from tests.evac.test_drain_runner import D, furnish, order
from tests.evac.world import C, World, seen, vm_uuid
from vmha.errors import Aborted
from vmha.model import EvacuationState, VmOutcome
from vmha.store import Store, keys

WRITES: Final = (
    ("evacuation_plan", 1),
    ("vm_lock", 1),
    ("evacuation_step", 1),
    ("vm_move", 1),
    ("evacuation_step", 2),
    ("evacuation_advance", 1),
    ("evacuation_advance", 2),
)
"""Scripts that the drain of one VM runs, and which of its calls."""


class Mortal:
    """A store whose user is killed at the n-th call of a script: before or after Redis has run it."""

    def __init__(self, store: Store, script: str, number: int, when: str) -> None:
        self.store, self.dead = Store(store._client), asyncio.Event()
        self._script, self._left, self._when = script, number, when
        self._run = self.store._scripts.run
        self.store._scripts.run = self._counted  # type: ignore[method-assign]

    async def _counted(self, name: str, *arguments: Any, **options: Any) -> list[Any]:
        if self.dead.is_set():
            raise Aborted("RUNNER_SUPERSEDED", "killed")
        self._left -= name == self._script
        if self._left or name != self._script:
            return await self._run(name, *arguments, **options)
        if self._when == "after":
            await self._run(name, *arguments, **options)
        self.dead.set()
        raise Aborted("RUNNER_SUPERSEDED", "killed")


async def killed(world: World, script: str, number: int, when: str) -> None:
    """A drain of vm1 that came as far as that."""
    await furnish(world, seen(1))
    mortal = Mortal(world.store, script, number, when)
    evacuator = world.supervisor(store=mortal.store)
    evacuator.ensure(await order(world))
    async with asyncio.timeout(10):
        await mortal.dead.wait()
    evacuator.draining = True
    for task in list(evacuator._tasks.values()):
        task.cancel()
    await asyncio.gather(*evacuator._tasks.values(), return_exceptions=True)
    await world.store._client.delete(keys.RUNNER(C, D), keys.PLANNING(C))  # they end by themselves, later


async def left_behind(world: World) -> set[str]:
    """What of a drain stands in the VM's record."""
    row = await world.store._client.hgetall(keys.VM(C, vm_uuid(1)))
    return {str(name) for name in row if str(name).startswith(("lock_", "moving_"))}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("script", "number"), WRITES)
async def test_s14_the_next_evacuator_ends_it(world: World, script: str, number: int, when: str) -> None:
    """The VM has moved, once; its host's word and the store's are the same."""
    await killed(world, script, number, when)

    world.supervisor().ensure(await world.store.evacuations.get(C, D))
    record = await world.ended(D)

    [host_id] = world.running_on(1)
    assert record.state is EvacuationState.SUCCEEDED
    assert host_id == (await world.store.vms.get(C, vm_uuid(1))).owner_host_id != "h1"
    assert world.fake("h1").sent == [vm_uuid(1)]
    assert await left_behind(world) == set()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("script", "number"), WRITES[:3])
async def test_s14_the_next_evacuator_has_another_target(world: World, script: str, number: int, when: str) -> None:
    """Where the VM was to go is out of service by then: it goes elsewhere, and is not taken for one that somebody else moves."""
    await killed(world, script, number, when)
    planned = (await world.store.vms.get(C, vm_uuid(1))).moving_to or "h2"
    await world.store.hosts.set_maintenance(C, planned, True, None)

    world.supervisor().ensure(await world.store.evacuations.get(C, D))
    record = await world.ended(D)

    assert record.state is EvacuationState.SUCCEEDED
    assert world.running_on(1) == [({"h2", "h3"} - {planned}).pop()]
    assert await left_behind(world) == set()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("script", "number"), WRITES[:-1])
async def test_s14_the_next_evacuator_finds_it_cancelled(world: World, script: str, number: int, when: str) -> None:
    """The VM is where it had come to; no word on its way is left, which would keep its host from starting it after a reboot."""
    await killed(world, script, number, when)
    await world.store.hosts.undrain(C, "h1", None)

    world.supervisor().ensure(await world.store.evacuations.get(C, D))
    record = await world.ended(D)

    [host_id] = world.running_on(1)
    outcomes = {entry.outcome for entry in (await world.entries(D)).values()}
    assert record.state is EvacuationState.CANCELLED
    assert outcomes <= {VmOutcome.SKIPPED if host_id == "h1" else VmOutcome.MOVED}
    assert host_id == (await world.store.vms.get(C, vm_uuid(1))).owner_host_id
    assert await left_behind(world) == set()
