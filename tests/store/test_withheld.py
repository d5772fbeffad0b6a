"""What a host is not told to start when it registers, because another one may have it (R22)."""

from __future__ import annotations

import pytest

from tests.store.ways import RUNNER, C
from tests.support.failures import cluster_of, confirm_down, own, register, running
from vmha.model import EvacuationState, ProofKind, VmState
from vmha.store import Store
from vmha.store.records import Leftover, VmObservation


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


@pytest.mark.parametrize(("boot", "reason"), [("boot-h1-1", "MIGRATED_AWAY"), ("boot-h1-2", "")])
async def test_r22_what_went_without_a_word_in_one_boot_has_left(store: Store, boot: str, reason: str) -> None:
    """No agent saw how: its own host does not start it until somebody says where it is. After a reboot everything is off."""
    incarnations = await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    incarnations["h1"] = await register(store, C, "h1", boot)

    for _ in range(2):
        await reports(store, "h1", incarnations, running("v1", state=VmState.ABSENT))
    assert (await store.vms.get(C, "v1")).reason == reason

    await reports(store, "h2", incarnations, running("v1"))
    assert (await store.vms.get(C, "v1")).owner_host_id == "h2"


@pytest.mark.parametrize("owner_first", [True, False])
async def test_r22_what_left_and_was_fenced_where_it_came_to_is_its_owner_s_to_start(store: Store, owner_first: bool) -> None:
    """The two halves of that may be told in either order; one alone says nothing."""
    incarnations = await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    left = running("v1", state=VmState.ABSENT, reason="migrated")
    fenced = running("v1", state=VmState.SHUTOFF, reason="self_fenced")
    await reports(store, "h2", incarnations, running("v1"))
    incarnations["h2"] = await register(store, C, "h2", "boot-h2-2")
    halves = [("h1", left), ("h2", fenced)] if owner_first else [("h2", fenced), ("h1", left)]

    await reports(store, halves[0][0], incarnations, halves[0][1])
    assert await withheld(store) == (0, [])
    await reports(store, halves[1][0], incarnations, halves[1][1])

    assert await withheld(store) == (1, ["v1"])


async def test_r22_an_old_copy_that_was_fenced_says_nothing_of_a_new_one(store: Store) -> None:
    """Where it was before its host was cut off it is off, too; it has moved since, and left its new host unseen."""
    incarnations = await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    await reports(store, "h2", incarnations, running("v1", state=VmState.SHUTOFF, reason="self_fenced"))

    await reports(store, "h1", incarnations, running("v1", state=VmState.ABSENT, reason="migrated"))

    assert (await withheld(store), (await store.vms.get(C, "v1")).reason) == ((0, []), "MIGRATED_AWAY")


async def told_whole(store: Store, host_id: str, incarnations: dict[str, int], *left: Leftover) -> int:
    return await store.vms.told_whole(C, host_id, incarnations[host_id], {one.vm_id for one in left}, left)


def leftover(*, owner_silent: bool = False, fenced: bool = False) -> Leftover:
    return Leftover(vm_id="v1", owner_silent=owner_silent, fenced=fenced)


@pytest.mark.parametrize(("boot", "fenced"), [("boot-h2-2", False), ("boot-h2-1", True)])
@pytest.mark.parametrize("owner_first", [True, False])
async def test_r22_what_left_and_ended_with_the_host_where_it_came_to_is_its_owner_s_to_start(
    store: Store, owner_first: bool, boot: str, fenced: bool
) -> None:
    """No manager heard of the move: its owner says it later, and a definition is there that was not there before."""
    incarnations = await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    await told_whole(store, "h2", incarnations)
    incarnations["h2"] = await register(store, C, "h2", boot)
    left = running("v1", state=VmState.ABSENT, reason="migrated")

    if owner_first:
        await reports(store, "h1", incarnations, left)
    ended = await told_whole(store, "h2", incarnations, leftover(owner_silent=True, fenced=fenced))
    assert ended == (1 if owner_first else 0)
    assert await withheld(store) == ((1, ["v1"]) if owner_first else (0, []))
    await reports(store, "h1", incarnations, left)

    assert await withheld(store) == (1, ["v1"])


async def test_r22_what_is_started_after_its_end_elsewhere_may_leave_again(store: Store) -> None:
    """Its owner was told to start it, and says that it left under that newer epoch: where it is nobody knows again."""
    incarnations = await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h1", ["v1"])
    await told_whole(store, "h2", incarnations)
    incarnations["h2"] = await register(store, C, "h2", "boot-h2-2")
    before = (await store.vms.get(C, "v1")).epoch
    await reports(store, "h1", incarnations, running("v1", state=VmState.ABSENT, reason="migrated", epoch=before))
    await told_whole(store, "h2", incarnations, leftover())
    _, (told,) = await store.vms.withheld(C)
    assert told.epoch > before

    await reports(store, "h1", incarnations, running("v1", state=VmState.ABSENT, reason="migrated", epoch=told.epoch))

    assert (await withheld(store), (await store.vms.get(C, "v1")).reason) == ((1, []), "MIGRATED_AWAY")


NOT_ENDED = ["owner is heard", "runs at its owner's", "same boot", "never told", "old definition", "handed over since", "drained"]


@pytest.mark.parametrize("case", NOT_ENDED)
async def test_r22_a_definition_that_says_nothing_of_where_the_vm_went_starts_nothing(store: Store, case: str) -> None:
    """It left its owner for a host that nobody has heard of: what is off elsewhere is older, or the VM came back from there."""
    incarnations = await cluster_of(store, C, ["h1", "h2", "h3"])
    await own(store, C, "h3" if case == "handed over since" else "h1", ["v1"])
    if case != "never told":
        await told_whole(store, "h2", incarnations, *[leftover()] * (case == "old definition"))
    if case == "handed over since":
        vm = await store.vms.get(C, "v1")
        await store.vms.move(C, "v1", "h3", "h1", incarnations["h1"], vm.epoch)
    if case == "drained":
        await store._client.hset(f"vmha:{{{C}}}:vm:v1", mapping={"moving_to": "h2", "moving_incarnation": incarnations["h2"]})
    incarnations["h2"] = await register(store, C, "h2", "boot-h2-1" if case == "same boot" else "boot-h2-2")

    await told_whole(store, "h2", incarnations, leftover(owner_silent=case != "owner is heard"))
    if case == "runs at its owner's":
        await reports(store, "h1", incarnations, running("v1"))
    await reports(store, "h1", incarnations, running("v1", state=VmState.ABSENT, reason="migrated"))

    assert (await withheld(store), (await store.vms.get(C, "v1")).reason) == ((0, []), "MIGRATED_AWAY")


async def test_s08_a_word_on_an_older_copy_does_not_delete_the_vm(store: Store) -> None:
    """It runs on h2, and is claimed for h1, which had undefined what it had before: only where a VM ran last is it deleted."""
    incarnations = await cluster_of(store, C, ["h1", "h2"])
    await own(store, C, "h2", ["v1", "v2"])
    vm = await store.vms.get(C, "v1")
    key = f"vmha:{{{C}}}:vm:v1"
    await store.vms.move(C, "v1", "h2", "h1", incarnations["h1"], vm.epoch)
    await store._client.hset(key, "ran_in", (await store.hosts.get(C, "h2")).boot_id)  # claimed, not moved
    undefined = [running(vm_id, state=VmState.ABSENT, reason="undefined", epoch=vm.epoch + 1) for vm_id in ("v1", "v2")]

    await reports(store, "h1", incarnations, undefined[0])
    await reports(store, "h2", incarnations, undefined[1])

    assert [record.vm_id for record in await store.vms.list(C)] == ["v1"]
