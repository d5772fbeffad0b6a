"""The wish to drain a host, and the lock on a VM that is moved."""

from __future__ import annotations

import asyncio

import pytest

from tests.store.ways import RUNNER, C, planned
from tests.support.failures import cluster_of, confirm_down, own, register
from vmha.errors import Aborted, PreconditionFailed, Unavailable
from vmha.model import EvacuationKind, EvacuationState, VmState
from vmha.store import Store
from vmha.store.records import VmObservation, VmRecord

D, E = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


async def draining(store: Store) -> tuple[VmRecord, dict[str, int]]:
    """h1 owns v1 and is drained by RUNNER; h2 and h3 are there."""
    incarnations = await cluster_of(store, C, ["h1", "h2", "h3"])
    await own(store, C, "h1", ["v1"])
    await store.hosts.drain(C, "h1", D, False, None)
    assert await store.evacuations.acquire(C, D, RUNNER, 30)
    return await store.vms.get(C, "v1"), incarnations


async def lock(store: Store, vm: VmRecord, incarnations: dict[str, int], target: str = "h2", *, ttl_s: float = 30.0) -> None:
    await store.vm_locks.take(C, D, RUNNER, vm, ttl_s, target, incarnations[target])


async def test_s14_the_wish_is_the_journal(store: Store) -> None:
    """One script: maintenance, the drain's id on the host, and a journal that is among the unfinished ones; its end clears it."""
    await draining(store)
    [record] = await store.evacuations.unfinished(C)
    host = await store.hosts.get(C, "h1")
    assert (record.evacuation_id, record.kind, record.state) == (D, EvacuationKind.DRAIN, EvacuationState.PLANNING)
    assert (host.drain_id, host.in_maintenance) == (D, True)

    await store.evacuations.advance(C, D, RUNNER, EvacuationState.SUCCEEDED)

    host = await store.hosts.get(C, "h1")
    assert (host.drain_id, host.in_maintenance) == ("", True)
    assert await store.evacuations.unfinished(C) == []
    assert [each.evacuation_id for each in await store.evacuations.list(C, "h1")] == [D]


async def test_s14_a_drain_does_not_stand_in_the_way_of_an_evacuation(store: Store) -> None:
    """A host that dies in its drain is evacuated like any other; deleting it waits for both."""
    await draining(store)
    incident = await confirm_down(store, C, "h1")

    started = await store.evacuations.start(C, incident.incident_id, "h1", incident.fence_epoch, incident.incarnation, 0)

    assert started.state is EvacuationState.VERIFYING
    assert {each.kind for each in await store.evacuations.unfinished(C)} == set(EvacuationKind)
    with pytest.raises(PreconditionFailed):
        await store.hosts.delete(C, "h1", None)


@pytest.mark.parametrize("way", ["undrain", "maintenance", "evacuation"])
async def test_s14_every_way_to_end_a_drain(store: Store, way: str) -> None:
    """CancelHostDrain, EndHostMaintenance and CancelEvacuation: the runner is asked to end it, the host is back in service."""
    await draining(store)
    if way == "undrain":
        await store.hosts.undrain(C, "h1", None)
    elif way == "maintenance":
        await store.hosts.set_maintenance(C, "h1", False, None)
    else:
        await store.evacuations.request_cancel(C, D, "enough")

    assert (await store.evacuations.get(C, D)).cancel_requested
    assert not (await store.hosts.get(C, "h1")).in_maintenance


async def test_s14_a_drain_that_has_ended_is_not_the_hosts_next_one(store: Store) -> None:
    """CancelEvacuation of an old drain: the one under way goes on, and the host stays out of service."""
    await draining(store)
    await store.evacuations.advance(C, D, RUNNER, EvacuationState.PARTIALLY_FAILED)
    await store.hosts.drain(C, "h1", E, False, None)

    old = await store.evacuations.request_cancel(C, D, "too late")

    host = await store.hosts.get(C, "h1")
    assert (old.state, old.cancel_requested) == (EvacuationState.PARTIALLY_FAILED, False)
    assert not (await store.evacuations.get(C, E)).cancel_requested
    assert (host.drain_id, host.in_maintenance) == (E, True)


@pytest.mark.parametrize("before", [True, False])
async def test_s14_maintenance_that_was_asked_for_outlasts_a_cancelled_drain(store: Store, before: bool) -> None:
    """Before the drain, or in the middle of it."""
    await cluster_of(store, C, ["h1", "h2"])
    if before:
        await store.hosts.set_maintenance(C, "h1", True, None)
    await store.hosts.drain(C, "h1", D, False, None)
    if not before:
        await store.hosts.set_maintenance(C, "h1", True, None)

    assert (await store.hosts.undrain(C, "h1", None)).in_maintenance
    assert (await store.hosts.undrain(C, "h2", None)).drain_id == ""  # without a drain nothing happens


async def test_s14_a_store_that_was_lost_gets_the_wish_back(store: Store) -> None:
    """The manager restores the host with its drain, whose journal begins anew under the same id."""
    await draining(store)
    snapshot = await store.clusters.snapshot(C)
    await store._client.flushall()

    await store.clusters.restore(snapshot.cluster, list(snapshot.hosts.values()), (), {})

    [record] = await store.evacuations.unfinished(C)
    assert (record.evacuation_id, record.kind, record.state) == (D, EvacuationKind.DRAIN, EvacuationState.PLANNING)
    assert (await store.hosts.get(C, "h1")).drain_id == D


async def test_s27_one_holder_at_a_time_and_no_longer_than_its_ttl(store: Store) -> None:
    """Another drain's lock is refused until it runs out; the holder's own repeat prolongs it."""
    vm, incarnations = await draining(store)
    await store.vm_locks.take(C, D, RUNNER, vm, 0.05)
    await store.vm_locks.take(C, D, RUNNER, vm, 30.0)
    await store.hosts.drain(C, "h3", E, False, None)
    assert await store.evacuations.acquire(C, E, "other", 30)

    with pytest.raises(Aborted) as other:
        await store.vm_locks.take(C, E, "other", vm, 30.0)
    with pytest.raises(Aborted) as renewed:
        await store.vm_locks.renew(C, E, "other", "v1", 30.0)
    await store.vm_locks.renew(C, D, RUNNER, "v1", 0.001)
    await asyncio.sleep(0.05)
    await store.vm_locks.take(C, E, "other", vm, 30.0)

    assert [error.value.reason for error in (other, renewed)] == ["VM_LOCKED", "VM_LOCKED"]
    assert incarnations


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("epoch", "STALE_VM_EPOCH"),
        ("source", "STALE_INCARNATION"),
        ("target", "STALE_INCARNATION"),
        ("seen", "VM_MIGRATING"),
        ("moving", "VM_MIGRATING"),
    ],
)
async def test_s27_what_stands_against_a_lock(store: Store, change: str, reason: str) -> None:
    """Another epoch or owner, a host that was given up, a target that is no more, a VM on somebody's way."""
    vm, incarnations = await draining(store)
    match change:
        case "epoch":
            await register(store, C, "h1", "boot-h1-2")
        case "source":
            await confirm_down(store, C, "h1")
        case "target":
            await confirm_down(store, C, "h2")
        case "seen":
            await own(store, C, "h3", ["v1"])
        case "moving":
            await lock(store, vm, incarnations, "h3")

    with pytest.raises(Aborted) as error:
        await lock(store, vm, incarnations)

    assert error.value.reason == reason


async def test_s27_nothing_is_locked_in_safe_mode(store: Store) -> None:
    """A store that has lost writes may have lost where the VM is going (R20)."""
    vm, incarnations = await draining(store)
    await store._client.hset(f"vmha:{{{C}}}:cluster", "awaited", '["h3"]')

    with pytest.raises(Unavailable) as error:
        await lock(store, vm, incarnations)

    assert error.value.reason == "SAFE_MODE"


async def test_r22_a_claim_waits_for_the_target_that_has_not_said_a_word(store: Store) -> None:
    """The lock ends, the intent stays; a look at the target, recorded after the proof, frees the VM."""
    way = await planned(store, ["v1"])
    key = f"vmha:{{{C}}}:vm:v1"
    await store._client.hset(
        key, mapping={"moving_to": "h3", "moving_incarnation": str(way.incarnations["h3"]), "moving_by": D, "lock_id": D}
    )
    with pytest.raises(Aborted) as error:
        await way.claim(way.entries[0])
    assert (error.value.reason, error.value.metadata["state"]) == ("VM_MIGRATING", "ON_ITS_WAY")

    await store.evacuations.not_there(C, way.id, RUNNER, "v1", "h2")  # another host: says nothing
    with pytest.raises(Aborted):
        await way.claim(way.entries[0])
    await store.evacuations.not_there(C, way.id, RUNNER, "v1", "h3")
    claimed = await way.claim(way.entries[0])

    assert claimed.epoch == way.entries[0].source_epoch + 1
    assert (await store.vms.get(C, "v1")).moving_to == ""


async def test_r22_a_vm_that_has_arrived_is_nobodys_secret(store: Store) -> None:
    """The target reports it running after its owner reported it gone: owner, epoch, and neither lock nor intent is left."""
    vm, incarnations = await draining(store)
    await lock(store, vm, incarnations)
    gone = VmObservation(vm_id="v1", name="v1", state=VmState.ABSENT, state_reason="migrated")
    await store.vms.observe(C, "h1", incarnations["h1"], [gone], full=False, planned_shutdown=False)
    there = VmObservation(vm_id="v1", name="v1", state=VmState.RUNNING)
    await store.vms.observe(C, "h2", incarnations["h2"], [there], full=False, planned_shutdown=False)

    moved = await store.vms.get(C, "v1")
    assert (moved.owner_host_id, moved.epoch, moved.moving_to) == ("h2", vm.epoch + 1, "")
    assert await store._client.hget(f"vmha:{{{C}}}:vm:v1", "lock_id") is None
    assert await store._client.smembers(f"vmha:{{{C}}}:host:h2:seen") == set()


async def test_r22_where_a_vm_is_going_outlives_inventories_that_do_not_name_it(store: Store) -> None:
    """The target's whole inventory was read before the memory came: the intent stands, also in the index of that host."""
    vm, incarnations = await draining(store)
    await lock(store, vm, incarnations)
    await store.vms.observe(C, "h2", incarnations["h2"], [], full=True, planned_shutdown=False)

    assert (await store.vms.get(C, "v1")).moving_to == "h2"
    await store.vm_locks.release(C, D, RUNNER, "v1", looked=False)
    assert (await store.vms.get(C, "v1")).moving_to == "h2"
    await store.vm_locks.release(C, D, RUNNER, "v1", looked=True)
    assert (await store.vms.get(C, "v1")).moving_to == ""
