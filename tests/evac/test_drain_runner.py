"""Drains over a real Redis, with hypervisors in memory: what is done outside, and what the next runner makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.evac.doubles import FakeHypervisor
from tests.evac.world import C, World, seen, vm_uuid
from tests.support.failures import register
from vmha.errors import Aborted
from vmha.evac import vm_hold
from vmha.evac.reasons import VmReason
from vmha.model import EvacuationKind, EvacuationState, HostState, ProofKind, VmOutcome, VmState, VmStep
from vmha.store import keys
from vmha.store.records import EvacuationRecord, HostRecord, VmEntry, VmObservation

D = "11111111-1111-4111-8111-111111111111"
FAR = 60.0


async def furnish(world: World, *observations: VmObservation, hosts: int = 3) -> None:
    """A cluster whose h1 runs these VMs, in the store and in its hypervisor."""
    await world.cluster(hosts)
    await world.vms(*observations)
    for observation in observations:
        world.fake("h1").domains[observation.vm_id] = observation.state


async def order(world: World, *, stop: bool = False) -> EvacuationRecord:
    await world.store.hosts.drain(C, "h1", D, stop, None)
    return await world.store.evacuations.get(C, D)


async def drained(world: World, *, stop: bool = False) -> EvacuationRecord:
    world.supervisor().ensure(await order(world, stop=stop))
    return await world.ended(D)


async def on_its_way(world: World, number: int = 1) -> None:
    """Until the VM is being sent."""
    async with asyncio.timeout(10):
        while vm_uuid(number) not in world.fake("h1").leaving:
            await asyncio.sleep(0.01)


async def sending(world: World) -> tuple[FakeHypervisor, str]:
    """A drain of h1 is sending vm1, and will be for long; returns its host's libvirt, and where it goes."""
    source = world.fake("h1")
    source.migrate_s = FAR
    world.supervisor().ensure(await order(world))
    await on_its_way(world)
    return source, (await world.store.vms.get(C, vm_uuid(1))).moving_to


async def down_on_its_way(world: World) -> FakeHypervisor:
    """h1 loses power while vm1 is being sent; returns its libvirt, which cannot be reached yet."""
    await furnish(world, seen(1))
    source, _ = await sending(world)
    source.unreachable = True
    source.leaving[vm_uuid(1)].cancel()
    source.domains[vm_uuid(1)] = VmState.SHUTOFF
    return source


async def until(fact: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not fact():
            await asyncio.sleep(0.01)


async def host(world: World) -> HostRecord:
    return await world.store.hosts.get(C, "h1")


async def test_s14_a_drain_moves_what_runs_and_what_is_paused(world: World) -> None:
    """Owners, epochs and desired states follow; the host stays in maintenance; nothing was started or admitted."""
    await furnish(world, seen(1), seen(2, state=VmState.PAUSED, reason="user"), seen(3, ha_enabled=False))

    record = await drained(world)

    vms = {vm.vm_id: vm for vm in await world.store.vms.list(C)}
    assert (record.kind, record.state) == (EvacuationKind.DRAIN, EvacuationState.SUCCEEDED)
    assert world.fake("h1").domains == {}
    assert {vm.owner_host_id for vm in vms.values()} <= {"h2", "h3"}
    assert {vm.epoch for vm in vms.values()} == {2}
    assert vms[vm_uuid(2)].desired_state is VmState.PAUSED
    assert (await host(world)).in_maintenance
    assert (await host(world)).drain_id == ""
    assert world.agent.admitted == []


async def test_s14_the_manager_is_not_needed_once_it_is_ordered(world: World) -> None:
    """An evacuator finds the journal by itself; the same order again joins it."""
    await furnish(world, seen(1))
    await order(world)
    again = await world.store.hosts.drain(C, "h1", "22222222-2222-4222-8222-222222222222", False, None)

    await world.supervisor().resume()

    assert again.drain_id == D
    assert (await world.ended(D)).state is EvacuationState.SUCCEEDED


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"has_passthrough": True}, VmReason.PASSTHROUGH_DEVICE),
        ({"has_vtpm": True}, VmReason.VTPM_STATE_NOT_SHARED),
        ({"resize_unconfirmed": True}, VmReason.RESIZE_UNCONFIRMED),
    ],
)
async def test_s14_what_cannot_move_runs_on_with_its_reason(world: World, facts: dict[str, Any], reason: VmReason) -> None:
    """The others leave; the drain ends PARTIALLY_FAILED, and the VM's own record is not made to look as if it were down."""
    await furnish(world, seen(1), seen(2, **facts))

    record = await drained(world)

    entry = (await world.entries(D))["vm2"]
    assert record.state is EvacuationState.PARTIALLY_FAILED
    assert (entry.outcome, entry.reason) == (VmOutcome.FAILED, reason)
    assert world.fake("h1").domains == {vm_uuid(2): VmState.RUNNING}
    assert (await world.store.vms.get(C, vm_uuid(2))).reason == ""


async def test_s14_with_stop_it_is_shut_down_and_a_deaf_guest_is_ended(world: World) -> None:
    """--stop: both are stopped, defined still, and named; nothing runs on the host."""
    await furnish(world, seen(1, has_passthrough=True), seen(2, has_passthrough=True))
    world.fake("h1").deaf.add(vm_uuid(2))
    object.__setattr__(world.settings, "stop_grace_s", 0.2)

    record = await drained(world, stop=True)

    entries = await world.entries(D)
    assert record.state is EvacuationState.SUCCEEDED
    assert {entry.reason for entry in entries.values()} == {VmReason.VM_STOPPED}
    assert set(world.fake("h1").domains.values()) == {VmState.SHUTOFF}


async def test_s14_a_refused_migration_goes_to_another_target(world: World) -> None:
    """What h1 cannot send is tried on each target once, and then left, running, with libvirt's words."""
    await furnish(world, seen(1))
    world.fake("h1").migrates_not.add(vm_uuid(1))

    record = await drained(world)

    entry = (await world.entries(D))["vm1"]
    assert record.state is EvacuationState.FAILED
    assert entry.reason == VmReason.MIGRATION_REFUSED and "the migration failed" in entry.message
    assert set(entry.attempts) == {"h2", "h3"}
    assert world.running_on(1) == ["h1"]
    assert (await world.store.vms.get(C, vm_uuid(1))).moving_to == ""


async def test_s14_one_that_arrived_paused_counts_its_refusals(world: World) -> None:
    """Its agent takes it for one that waits for admission, and it is none: it stays where it is after its tries, paused."""
    await furnish(world, seen(1, state=VmState.PAUSED, reason="user"))
    await world.vms(seen(1, state=VmState.AWAITING_ADMISSION))
    world.fake("h1").migrates_not.add(vm_uuid(1))

    record = await drained(world)

    entry = (await world.entries(D))["vm1"]
    assert (record.state, entry.reason) == (EvacuationState.FAILED, VmReason.MIGRATION_REFUSED)
    assert len(world.fake("h1").sent) == 2
    assert world.fake("h1").domains == {vm_uuid(1): VmState.PAUSED}


async def test_s14_an_evacuator_dies_in_the_middle(world: World) -> None:
    """The migration goes on by itself; the next runner sees it arrive, and sends nothing a second time."""
    await furnish(world, seen(1), seen(2))
    world.fake("h1").migrate_s = 0.6
    first = world.supervisor()
    first.ensure(await order(world))
    await on_its_way(world)
    for task in list(first._tasks.values()):
        task.cancel()
    await first.drain()

    world.supervisor().ensure(await world.store.evacuations.get(C, D))
    record = await world.ended(D)

    assert record.state is EvacuationState.SUCCEEDED
    assert sorted(world.fake("h1").sent) == sorted([vm_uuid(1), vm_uuid(2)])
    assert world.fake("h1").domains == {}


async def test_s14_an_answer_that_was_lost_is_looked_for(world: World) -> None:
    """The connection breaks while a migration is under way: both hosts are looked at, and it is moved once."""
    await furnish(world, seen(1))
    world.fake("h1").migrate_s = 0.3
    world.fake("h1").answers_lost.add("*")

    record = await drained(world)

    assert record.state is EvacuationState.SUCCEEDED
    assert world.fake("h1").sent == [vm_uuid(1)]


async def test_s14_a_cancel_leaves_everything_where_it_is(world: World) -> None:
    """What was on its way stays on its host; the host is back in service, for it was before."""
    await furnish(world, seen(1), seen(2))
    await sending(world)

    back = await world.store.hosts.undrain(C, "h1", None)
    record = await world.ended(D)

    assert not back.in_maintenance
    assert record.state is EvacuationState.CANCELLED
    assert set(world.fake("h1").domains.values()) == {VmState.RUNNING}
    assert {entry.reason for entry in (await world.entries(D)).values()} == {VmReason.DRAIN_CANCELLED}
    assert (await host(world)).drain_id == ""


async def test_s14_a_cancel_ends_no_guest_by_force(world: World) -> None:
    """A guest that does not listen to its shutdown runs on when the drain is cancelled, however long it was to be given."""
    await furnish(world, seen(1, has_passthrough=True))
    world.fake("h1").deaf.add(vm_uuid(1))
    world.supervisor().ensure(await order(world, stop=True))
    await until(lambda: vm_uuid(1) in world.fake("h1").asked_to_stop)

    await world.store.hosts.undrain(C, "h1", None)
    record = await world.ended(D)

    assert record.state is EvacuationState.CANCELLED
    assert world.running_on(1) == ["h1"]
    assert (await world.entries(D))["vm1"].reason == VmReason.DRAIN_CANCELLED


async def test_s27_a_cancel_does_not_abort_what_another_one_began(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that comes when the drain is about to send the VM: libvirt has somebody else's job, and that one goes on."""
    await furnish(world, seen(1))
    source, drain = world.fake("h1"), world.supervisor()
    source.migrate_s = FAR
    stranger = asyncio.create_task(source.migrate(vm_uuid(1), "test:///h2", FAR))
    await on_its_way(world)
    journal = world.store.evacuations.step

    async def cancelled_just_then(*arguments: Any, **options: Any) -> EvacuationRecord:
        drain.cancel(D, "enough")
        return await journal(*arguments, **options)

    monkeypatch.setattr(world.store.evacuations, "step", cancelled_just_then)
    drain.ensure(await order(world))
    record = await world.ended(D)

    assert record.state is EvacuationState.CANCELLED
    assert vm_uuid(1) in source.leaving
    stranger.cancel()


async def test_r22_libvirts_word_that_it_arrived_is_enough_when_its_target_dies(world: World) -> None:
    """The target cannot be looked at any more: the VM is its own all the same, and its evacuation starts it elsewhere, once."""
    await furnish(world, seen(1))
    source = world.fake("h1")
    source.migrate_s = 0.3
    world.supervisor().ensure(await order(world))
    await on_its_way(world)
    target = (await world.store.vms.get(C, vm_uuid(1))).moving_to
    world.fake(target).unreachable = True

    record = await world.ended(D)
    assert record.state is EvacuationState.SUCCEEDED
    assert (await world.store.vms.get(C, vm_uuid(1))).owner_host_id == target
    evacuation = await world.evacuate(target)

    [left] = {"h2", "h3"} - {target}
    assert evacuation.state is EvacuationState.SUCCEEDED
    assert world.fake(left).domains == {vm_uuid(1): VmState.RUNNING}


async def test_s14_a_host_that_is_back_in_service_is_drained_no_more(world: World) -> None:
    """The cancel was not heard of, or the store has lost it: nothing is sent, least of all to the host that it is on."""
    await furnish(world, seen(1))
    record = await order(world)
    await world.store.hosts.undrain(C, "h1", None)
    await world.store._client.hdel(keys.EVACUATION(C, D), "cancel_requested")

    world.supervisor().ensure(record)

    assert (await world.ended(D)).state is EvacuationState.CANCELLED
    assert world.fake("h1").domains == {vm_uuid(1): VmState.RUNNING}
    assert world.fake("h1").sent == []


async def test_s27_a_vm_that_another_one_migrates_is_left_alone(world: World) -> None:
    """libvirt has a job: the drain waits, and takes note when the VM is another host's."""
    await furnish(world, seen(1))
    world.fake("h1").busy.add(vm_uuid(1))
    world.supervisor().ensure(await order(world))
    await world.until(D, lambda record: record.state is EvacuationState.PENDING)
    entry = (await world.entries(D))["vm1"]
    assert (entry.outcome, entry.reason) == (VmOutcome.PENDING, VmReason.VM_BUSY)
    assert (await world.store.vms.get(C, vm_uuid(1))).moving_to == ""

    target = await world.store.hosts.get(C, "h2")
    await world.store.vms.move(C, vm_uuid(1), "h1", "h2", target.incarnation, 1)
    record = await world.ended(D)

    assert record.state is EvacuationState.SUCCEEDED
    assert (await world.entries(D))["vm1"].reason == VmReason.TAKEN_OVER


async def test_s27_a_host_of_a_drain_is_no_target_of_another(world: World) -> None:
    """h2 is drained, too: everything goes to h3."""
    await furnish(world, seen(1), seen(2))
    await world.store.hosts.drain(C, "h2", "22222222-2222-4222-8222-222222222222", False, None)

    await drained(world)

    assert {vm.owner_host_id for vm in await world.store.vms.list(C)} == {"h3"}


async def dies_in_the_middle(world: World) -> EvacuationRecord:
    """h1 is proven dead while vm1 is on its way to a target whose agent has not said a word."""
    await furnish(world, seen(1))
    source, _ = await sending(world)
    source.unreachable = True
    return await world.order(await world.fail("h1"))


async def test_r22_a_source_that_dies_in_the_middle_waits_for_the_targets_word(world: World) -> None:
    """Nothing starts while the target cannot be asked; when it can, and has nothing of it, the VM starts once."""
    evacuation = await dies_in_the_middle(world)
    target = (await world.store.vms.get(C, vm_uuid(1))).moving_to
    world.fake(target).unreachable = True
    world.fake("h1").leaving[vm_uuid(1)].cancel()  # what h1 had sent is dropped by the target

    world.supervisor().ensure(evacuation)
    await world.until(evacuation.evacuation_id, lambda record: record.state is EvacuationState.PENDING)
    assert (await world.entries(evacuation.evacuation_id))["vm1"].reason == VmReason.VM_MIGRATING
    assert all(fake.started == [] for fake in world.fakes.values())
    world.fake(target).unreachable = False
    await world.ended(evacuation.evacuation_id)

    assert len(set(world.running_on(1)) - {"h1"}) == 1
    assert sum(len(fake.started) for fake in world.fakes.values()) == 1


async def test_s14_a_drain_does_not_wait_for_the_answer_of_a_dead_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt's answer may not come for minutes: the drain sees that the VM is another's, and ends."""
    monkeypatch.setattr(vm_hold, "LOCK_S", 0.3)
    evacuation = await dies_in_the_middle(world)
    world.supervisor().ensure(evacuation)
    await world.ended(evacuation.evacuation_id)
    await world.store.hosts.set_state(C, "h1", HostState.EVACUATED, "", "")

    record = await world.ended(D)

    assert record.state is EvacuationState.SUCCEEDED
    assert (await world.entries(D))["vm1"].reason == VmReason.TAKEN_OVER


async def test_r22_what_has_come_in_so_far_is_dropped_at_the_target(world: World) -> None:
    """libvirt there would wait for its dead sender for hours: the evacuation ends it, after the proof, and starts the VM."""
    evacuation = await dies_in_the_middle(world)
    target = (await world.store.vms.get(C, vm_uuid(1))).moving_to
    assert world.fake(target).domains == {vm_uuid(1): VmState.PAUSED}

    world.supervisor().ensure(evacuation)
    await world.ended(evacuation.evacuation_id)

    assert len(set(world.running_on(1)) - {"h1"}) == 1
    assert sum(len(fake.started) for fake in world.fakes.values()) == 1


async def test_r22_what_a_stranger_was_sending_is_dropped_too(world: World) -> None:
    """The target's agent had seen it come in (PAUSED): it is ended there, and started when that agent says that it is gone."""
    await furnish(world, seen(1))
    world.fake("h2").domains[vm_uuid(1)] = VmState.PAUSED
    world.fake("h2").incoming.add(vm_uuid(1))
    await world.vms(seen(1, state=VmState.PAUSED, reason="migration"), host_id="h2")
    evacuation = await world.order(await world.fail("h1"))
    world.supervisor().ensure(evacuation)
    await until(lambda: world.fake("h2").domains == {})
    assert all(fake.started == [] for fake in world.fakes.values())

    await world.vms(VmObservation(vm_id=vm_uuid(1), name="vm1", state=VmState.ABSENT, state_reason="failed"), host_id="h2")
    await world.ended(evacuation.evacuation_id)

    assert sum(len(fake.started) for fake in world.fakes.values()) == 1


async def test_r22_a_vm_that_arrived_as_its_source_died_is_not_started_again(world: World) -> None:
    """The target's libvirt runs it: it becomes the owner, and the evacuation leaves it alone."""
    evacuation = await dies_in_the_middle(world)
    target = (await world.store.vms.get(C, vm_uuid(1))).moving_to
    world.fake("h1").leaving[vm_uuid(1)].cancel()
    await until(lambda: vm_uuid(1) not in world.fake("h1").leaving)
    world.fake(target).domains[vm_uuid(1)] = VmState.RUNNING
    world.fake("h1").domains.clear()

    world.supervisor().ensure(evacuation)
    await world.ended(evacuation.evacuation_id)

    assert world.running_on(1) == [target]
    assert (await world.store.vms.get(C, vm_uuid(1))).owner_host_id == target
    assert all(fake.started == [] for fake in world.fakes.values())


async def test_r22_a_target_that_is_proven_dead_frees_the_vm(world: World) -> None:
    """Both hosts of the migration are dead: the third one gets it."""
    evacuation = await dies_in_the_middle(world)
    target = (await world.store.vms.get(C, vm_uuid(1))).moving_to
    world.fake("h1").leaving[vm_uuid(1)].cancel()
    world.fake(target).unreachable = True
    other = await world.order(await world.fail(target))

    for record in (evacuation, other):
        world.supervisor().ensure(record)
    await world.ended(evacuation.evacuation_id)

    [left] = {"h2", "h3"} - {target}
    assert world.fake(left).domains == {vm_uuid(1): VmState.RUNNING}


async def test_r22_a_host_that_reboots_in_the_middle_runs_it_again_and_is_drained_on(world: World) -> None:
    """It was not told to start a VM that may have arrived elsewhere; the drain looks, starts it at home, and sends it again."""
    await furnish(world, seen(1))
    source, _ = await sending(world)
    source.leaving[vm_uuid(1)].cancel()
    source.unreachable = True
    await world.store.hosts.set_state(C, "h1", HostState.SUSPECT, "", "")
    source.domains[vm_uuid(1)] = VmState.SHUTOFF
    world.agent.incarnations["h1"] = await register(world.store, C, "h1", "boot-h1-2")
    source.unreachable, source.migrate_s = False, 0.0
    await world.store.hosts.set_state(C, "h1", HostState.IN_MAINTENANCE, "", "")

    record = await world.ended(D)

    assert record.state is EvacuationState.SUCCEEDED
    assert source.started == [vm_uuid(1)]
    assert [each[:2] for each in world.agent.admitted] == [("h1", vm_uuid(1))]
    assert source.domains == {}
    assert len(world.running_on(1)) == 1


async def goes_down_after_it_arrived(world: World) -> str:
    """vm1 had left h1 and is off at its target before the drain has heard of either; returns where."""
    await furnish(world, seen(1))
    source, target = await sending(world)
    source.unreachable = world.fake(target).unreachable = True
    source.leaving[vm_uuid(1)].cancel()
    await until(lambda: vm_uuid(1) not in source.leaving)
    del source.domains[vm_uuid(1)]
    world.fake(target).domains[vm_uuid(1)] = VmState.SHUTOFF
    source.migrate_s = 0.0
    return target


async def test_r22_a_vm_that_arrived_and_went_down_at_once_is_its_target_s(world: World) -> None:
    """Its definition is there alone, so it had arrived: its new host's agent is told what it owns when it registers again."""
    target = await goes_down_after_it_arrived(world)
    world.fake("h1").unreachable = world.fake(target).unreachable = False

    record = await world.ended(D)

    assert record.state is EvacuationState.SUCCEEDED
    assert (await world.store.vms.get(C, vm_uuid(1))).owner_host_id == target
    assert all(fake.started == [] for fake in world.fakes.values())


async def test_r22_a_vm_that_went_down_at_a_target_that_came_back_without_it_starts_at_home(world: World) -> None:
    """The target registered while nobody knew that it has the VM, and was told to start nothing; its own host saw it leave."""
    target = await goes_down_after_it_arrived(world)
    world.agent.incarnations[target] = await register(world.store, C, target, "boot-again")
    world.fake("h1").unreachable = world.fake(target).unreachable = False
    await asyncio.sleep(0.3)  # it is looked at several times
    assert world.fake("h1").started == []

    await world.vms(seen(1, state=VmState.ABSENT, reason="migrated"))
    await until(lambda: world.running_on(1) == ["h1"])
    await world.vms(seen(1))
    record = await world.ended(D)

    assert record.state is EvacuationState.SUCCEEDED
    assert world.fake("h1").started == [vm_uuid(1)]
    assert len(world.running_on(1)) == 1


async def test_r22_a_source_that_rebooted_and_a_target_that_is_proven_dead(world: World) -> None:
    """Nobody is left who could have the VM: it is started at home, and drained on to the third host."""
    await furnish(world, seen(1))
    source, target = await sending(world)
    source.leaving[vm_uuid(1)].cancel()
    world.fake(target).unreachable = True
    source.domains[vm_uuid(1)] = VmState.SHUTOFF
    world.agent.incarnations["h1"] = await register(world.store, C, "h1", "boot-h1-2")
    source.migrate_s = 0.0
    await world.evacuate(target)

    record = await world.ended(D)

    [left] = {"h2", "h3"} - {target}
    assert record.state is EvacuationState.SUCCEEDED
    assert source.started == [vm_uuid(1)]
    assert world.fake(left).domains == {vm_uuid(1): VmState.RUNNING}


async def reboots_while_its_target_has_it_paused(world: World, *, incoming: bool) -> str:
    """h1 reboots while vm1 is on its way, or has just arrived; returns where."""
    source, target = await sending(world)
    source.unreachable = True
    source.leaving[vm_uuid(1)].cancel()
    await until(lambda: vm_uuid(1) not in source.leaving)
    world.fake(target).domains[vm_uuid(1)] = VmState.PAUSED
    world.fake(target).incoming |= {vm_uuid(1)} if incoming else set()
    source.domains[vm_uuid(1)] = VmState.SHUTOFF
    world.agent.incarnations["h1"] = await register(world.store, C, "h1", "boot-h1-2")
    source.unreachable, source.migrate_s = False, 0.0
    return target


async def test_r22_what_a_host_was_sending_when_it_rebooted_is_dropped_at_the_target(world: World) -> None:
    """Nobody sends the rest, whatever libvirt there waits for: the VM starts at home, and is sent again."""
    await furnish(world, seen(1))

    await reboots_while_its_target_has_it_paused(world, incoming=True)

    assert (await world.ended(D)).state is EvacuationState.SUCCEEDED
    assert world.fake("h1").started == [vm_uuid(1)]
    assert len(world.running_on(1)) == 1 and world.running_on(1) != ["h1"]


async def test_r22_a_paused_vm_that_had_arrived_when_its_host_rebooted(world: World) -> None:
    """It is the target's, paused as its user had left it; its old host starts nothing."""
    await furnish(world, seen(1, state=VmState.PAUSED, reason="user"))

    target = await reboots_while_its_target_has_it_paused(world, incoming=False)

    assert (await world.ended(D)).state is EvacuationState.SUCCEEDED
    assert (await world.store.vms.get(C, vm_uuid(1))).owner_host_id == target
    assert world.fake(target).domains == {vm_uuid(1): VmState.PAUSED}
    assert world.fake("h1").started == []


async def test_r22_a_start_at_home_that_was_not_admitted_is_made_again(world: World) -> None:
    """Its host's agent has no lease yet: the domain waits there paused. It is not taken for a VM that stayed, and is let run."""
    source = await down_on_its_way(world)
    world.agent.refuses["h1"] = "LEASE_EXPIRED"
    world.agent.incarnations["h1"] = await register(world.store, C, "h1", "boot-h1-2")
    source.unreachable = False
    await until(lambda: source.domains[vm_uuid(1)] is VmState.PAUSED)
    await world.vms(seen(1, state=VmState.AWAITING_ADMISSION))
    source.migrate_s = 0.0
    del world.agent.refuses["h1"]
    await until(lambda: world.running_on(1) == ["h1"])
    await world.vms(seen(1))

    record = await world.ended(D)

    assert record.state is EvacuationState.SUCCEEDED
    assert world.running_on(1) in (["h2"], ["h3"])


async def test_r22_a_start_at_home_whose_storage_is_locked_is_not_tried_again(world: World) -> None:
    """Somebody runs it, whatever both hosts say: it is FAILED with an alarm, and nobody is asked twice (design 5.4)."""
    source = await down_on_its_way(world)
    source.locked.add("*")
    world.agent.incarnations["h1"] = await register(world.store, C, "h1", "boot-h1-2")
    source.unreachable = False

    record = await world.ended(D)

    alarms = [event.detail for event in await world.store.events.read(C, 0) if event.kind == "alarm"]
    entry = (await world.entries(D))["vm1"]
    assert record.state is EvacuationState.FAILED
    assert (entry.outcome, entry.reason) == (VmOutcome.FAILED, VmReason.SOURCE_STILL_RUNNING)
    assert [alarm["reason"] for alarm in alarms] == ["SOURCE_STILL_RUNNING"]


async def test_r22_a_vm_that_had_left_for_a_host_that_died_before_anyone_saw_it(world: World) -> None:
    """No evacuator and no agent of the target lived when it arrived: its own host says that it left, and its target is dead."""
    await furnish(world, seen(1))
    source = world.fake("h1")
    source.migrate_s = FAR
    first = world.supervisor()
    first.ensure(await order(world))
    await on_its_way(world)
    target = (await world.store.vms.get(C, vm_uuid(1))).moving_to
    for task in list(first._tasks.values()):
        task.cancel()
    await first.drain()
    source.leaving[vm_uuid(1)].cancel()
    world.fake(target).unreachable = True
    source.domains.clear()
    gone = VmObservation(vm_id=vm_uuid(1), name="vm1", state=VmState.ABSENT, state_reason="migrated")
    await world.vms(gone)
    source.migrate_s = 0.0
    await world.evacuate(target)

    world.supervisor().ensure(await world.store.evacuations.get(C, D))
    await until(lambda: world.running_on(1) == ["h1"])
    await world.vms(seen(1))
    record = await world.ended(D)

    [left] = {"h2", "h3"} - {target}
    assert record.state is EvacuationState.SUCCEEDED
    assert source.started == [vm_uuid(1)]
    assert world.fake(left).domains == {vm_uuid(1): VmState.RUNNING}


async def test_r22_a_runner_that_was_superseded_locks_nothing(world: World) -> None:
    """A runner that slept through its lock gets no VM, keeps none, and takes no word back."""
    await furnish(world, seen(1))
    await order(world)
    vm = await world.store.vms.get(C, vm_uuid(1))
    target = await world.store.hosts.get(C, "h2")
    assert await world.store.evacuations.acquire(C, D, "first", 30.0)
    await world.store.vm_locks.take(C, D, "first", vm, 30.0, "h2", target.incarnation)
    await world.store.evacuations.release(C, D, "first")
    assert await world.store.evacuations.acquire(C, D, "second", 30.0)

    locks = world.store.vm_locks
    for act in (
        locks.take(C, D, "first", vm, 30.0, "h2", target.incarnation),
        locks.renew(C, D, "first", vm.vm_id, 30.0),
        locks.release(C, D, "first", vm.vm_id, looked=True),
    ):
        with pytest.raises(Aborted, match="Another runner"):
            await act

    assert (await world.store.vms.get(C, vm_uuid(1))).moving_to == "h2"


async def test_a_drain_claims_nothing(world: World) -> None:
    """Its journal has no proof: no VM can be started elsewhere through it."""
    await furnish(world, seen(1))
    await order(world)
    assert await world.store.evacuations.acquire(C, D, "r", 30.0)
    target = await world.store.hosts.get(C, "h2")
    [entry] = await world.store.vms.list(C, "h1")
    planned = VmEntry(
        vm_id=entry.vm_id,
        vm_name=entry.name,
        step=VmStep.PLANNED,
        target_host_id="h2",
        target_incarnation=target.incarnation,
        source_epoch=entry.epoch,
    )
    with pytest.raises(Aborted, match="not proven"):
        await world.store.evacuations.claim(C, D, "r", planned, "h1", (await host(world)).incarnation)

    assert (await world.store.evacuations.get(C, D)).proof is ProofKind.UNPROVEN
