"""What a host is not told to start when it registers, because another one may have it (R22)."""

from __future__ import annotations

import pytest

from tests.store.ways import RUNNER, C
from tests.support.failures import cluster_of, confirm_down, own, register, running
from vmha.model import EvacuationState, ProofKind, VmState
from vmha.store import Store
from vmha.store.records import VmObservation


async def rebooted_in_a_migration(store: Store) -> dict[str, int]:
    """h1 was sending v1 to h2 when it rebooted: it registers again, and owns v1 and v2."""
    incarnations = await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1", "v2"])
    await reports(store, "h2", incarnations, running("v1", state=VmState.PAUSED, reason="migration"))
    incarnations["h1"] = await register(store, C, "h1", "boot-h1-2")
    await reports(store, "h1", incarnations, *(running(vm_id, state=VmState.SHUTOFF, reason="unknown") for vm_id in ("v1", "v2")))
    return incarnations


async def reports(store: Store, host_id: str, incarnations: dict[str, int], *observations: VmObservation) -> None:
    await store.vms.observe(C, host_id, incarnations[host_id], observations, full=False, planned_shutdown=False)


async def withheld(store: Store) -> tuple[int, list[str]]:
    left, free = await store.vms.withheld(C)
    return left, [record.vm_id for record in free]


async def test_r22_what_a_host_was_not_told_to_start_is_known_until_it_runs(store: Store) -> None:
    """It is free when the other host has nothing of it any more, and forgotten when it runs."""
    incarnations = await rebooted_in_a_migration(store)
    assert await withheld(store) == (1, [])

    await reports(store, "h2", incarnations, running("v1", state=VmState.ABSENT))
    assert await withheld(store) == (1, ["v1"])

    await reports(store, "h1", incarnations, running("v1"))
    assert await withheld(store) == (0, [])
    assert await store._client.smembers(f"vmha:{{{C}}}:withheld") == set()


async def test_r22_what_was_withheld_is_free_when_the_other_host_is_proven_dead(store: Store) -> None:
    """Nobody is left who could have it but its own host."""
    await rebooted_in_a_migration(store)
    incident = await confirm_down(store, C, "h2")
    evacuation = await store.evacuations.start(C, incident.incident_id, "h2", incident.fence_epoch, incident.incarnation, 0)
    await store.evacuations.acquire(C, evacuation.evacuation_id, RUNNER, 30)
    assert await withheld(store) == (1, [])

    await store.evacuations.advance(C, evacuation.evacuation_id, RUNNER, EvacuationState.PLANNING, proof=ProofKind.FENCE)

    assert await withheld(store) == (1, ["v1"])


@pytest.mark.parametrize("end", ["moved", "stopped", "locked"])
async def test_r22_what_was_withheld_is_not_started_for_another_reason(store: Store, end: str) -> None:
    """It runs where it came to, its user stopped it, or a drain is at it."""
    incarnations = await rebooted_in_a_migration(store)
    if end == "moved":
        await reports(store, "h2", incarnations, running("v1"))
        vm = await store.vms.get(C, "v1")
        await store.vms.move(C, "v1", "h1", "h2", incarnations["h2"], vm.epoch)
    else:
        await reports(store, "h2", incarnations, running("v1", state=VmState.ABSENT))
    if end == "stopped":
        await reports(store, "h1", incarnations, running("v1", state=VmState.SHUTOFF, reason="shutdown"))
    if end == "locked":
        await store._client.hset(f"vmha:{{{C}}}:vm:v1", mapping={"lock_id": "d", "lock_until_ms": "9000000000000"})

    left, free = await withheld(store)

    assert (left, free) == (1 if end == "locked" else 0, [])
