"""Tests of vmha.agent.ownership: what a returned host starts, and what it gives up (S6, S8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.agent.conftest import VM1, VM2, VM3
from tests.support.hypervisor import MemoryHypervisor, domain_xml
from tests.support.waiting import until
from vmha.agent.guests import Guests
from vmha.agent.hypervisor import DomainChange
from vmha.agent.keeper import Keeper
from vmha.agent.lease_events import NEVER, Unregistered
from vmha.agent.ownership import ATTEMPTS, Owned, Ownership, Released
from vmha.agent.state import State
from vmha.agent.vm_locks import VmLocks
from vmha.model import VmState

RUNNING, PAUSED, SHUTOFF = VmState.RUNNING, VmState.PAUSED, VmState.SHUTOFF


@pytest.fixture
async def ownership(
    hypervisor: MemoryHypervisor, state: State, keeper: Keeper, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ownership]:
    """Of a host that is registered as 17."""
    monkeypatch.setattr("vmha.agent.ownership.BACKOFF_S", (0.01, 0.02))
    ownership = Ownership(state, keeper, hypervisor, guests, VmLocks())
    yield ownership
    await ownership.close()


def owned(vm_id: str, desired: VmState = RUNNING, epoch: int = 5, xml: str = "") -> Owned:
    return Owned(vm_id=vm_id, epoch=epoch, desired=desired, domain_xml=xml)


async def settled(ownership: Ownership) -> None:
    await until(lambda: not ownership._tasks)


async def test_s06_guests_that_died_in_a_quick_reboot_are_started_where_they_were(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State
) -> None:
    """Owned and should run: started. Shut off by its user, or paused: left shut off."""
    for name, vm_id in (("one", VM1), ("two", VM2), ("three", VM3)):
        hypervisor.user_defines(name, vm_id)
    ownership.update(17, [owned(VM1), owned(VM2, SHUTOFF), owned(VM3, PAUSED)], [], start_owned=True)
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING, VM2: SHUTOFF, VM3: SHUTOFF}
    assert [state.epoch(vm_id) for vm_id in (VM1, VM2, VM3)] == [5, 5, 5]
    assert state.starting == frozenset()


async def test_s08_how_an_older_copy_left_is_not_told_of_a_vm_that_is_owned_anew(
    ownership: Ownership, hypervisor: MemoryHypervisor, guests: Guests
) -> None:
    """It was given up and undefined; then it is claimed for this host under a newer epoch: "undefined" would delete it."""
    hypervisor.user_defines("one", VM1)
    await until(lambda: VM1 in (guests.table or {}))
    ownership.update(17, [], [Released(vm_id=VM1, epoch=9)], start_owned=False)
    await until(lambda: VM1 in guests.departed)

    ownership.update(17, [owned(VM1, epoch=10)], [], start_owned=False)
    assert VM1 not in guests.departed

    hypervisor.user_defines("one", VM1)
    await until(lambda: VM1 in (guests.table or {}))
    hypervisor.user_undefines(VM1, DomainChange.UNDEFINED)
    await until(lambda: VM1 in guests.departed)
    ownership.update(17, [owned(VM1, epoch=10)], [], start_owned=False)
    assert VM1 in guests.departed


async def test_guests_are_started_in_the_order_in_which_the_manager_named_them(
    ownership: Ownership, hypervisor: MemoryHypervisor
) -> None:
    """Not in the order of a set, which differs from process to process: the same scenario gives the same history."""
    vm_ids = [f"00000000-0000-4000-8000-{number:012d}" for number in range(40, 0, -1)]
    ownership.update(17, [owned(vm_id, xml=domain_xml(vm_id[-2:], vm_id)) for vm_id in vm_ids], [], start_owned=True)

    assert list(ownership._tasks) == vm_ids
    await settled(ownership)
    assert set(hypervisor.states().values()) == {RUNNING}


async def test_s08_what_moved_away_is_destroyed_and_undefined(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State
) -> None:
    """A released VM is gone from this host, running or not, and its epoch is remembered as a tombstone."""
    hypervisor.user_defines("one", VM1, running=True)
    hypervisor.user_defines("two", VM2)
    released = [Released(vm_id=vm_id, epoch=9, owner_host_id="h2") for vm_id in (VM1, VM2, VM3)]
    ownership.update(17, [], released, start_owned=True)
    await settled(ownership)

    assert hypervisor.states() == {}
    assert state.newest_epoch(VM1) == 9
    assert not state.owns(VM1)


async def test_a_vm_that_is_not_defined_here_is_defined_first(ownership: Ownership, hypervisor: MemoryHypervisor) -> None:
    """The manager's XML brings back a VM that this host lost."""
    ownership.update(17, [owned(VM1, xml=domain_xml("one", VM1))], [], start_owned=True)
    await settled(ownership)

    assert hypervisor.acts == [("define", VM1), ("start", VM1)]
    assert hypervisor.states() == {VM1: RUNNING}


async def test_a_start_that_waited_for_its_admission_goes_on(ownership: Ownership, hypervisor: MemoryHypervisor) -> None:
    """Created paused by an evacuation that this registration overtook: it is resumed. Paused by its user: it stays paused."""
    hypervisor.user_defines("one", VM1)
    hypervisor.user_sets(VM1, VmState.AWAITING_ADMISSION, "user")
    hypervisor.user_defines("two", VM2)
    hypervisor.user_sets(VM2, PAUSED, "user")
    ownership.update(17, [owned(VM1), owned(VM2)], [], start_owned=True)
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING, VM2: PAUSED}


async def test_r12_a_vm_whose_claim_was_lost_executes_when_its_host_is_told_so(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State
) -> None:
    """The one that waits is resumed under its new epoch; one that its user stopped or paused meanwhile is left alone."""
    for name, vm_id, found in (("one", VM1, VmState.AWAITING_ADMISSION), ("two", VM2, PAUSED), ("three", VM3, SHUTOFF)):
        hypervisor.user_defines(name, vm_id)
        hypervisor.user_sets(vm_id, found, "user")
    ownership.update(17, [replace(owned(vm_id), admit=True) for vm_id in (VM1, VM2, VM3)], [], start_owned=False)
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING, VM2: PAUSED, VM3: SHUTOFF}
    assert state.epoch(VM1) == 5


async def test_r12_a_vm_whose_claim_was_lost_waits_for_a_lease(
    ownership: Ownership, hypervisor: MemoryHypervisor, keeper: Keeper
) -> None:
    """Without a registration in force nothing executes, and its end drops what was to be admitted."""
    hypervisor.user_defines("one", VM1)
    hypervisor.user_sets(VM1, VmState.AWAITING_ADMISSION, "user")
    keeper.tell(Unregistered())
    ownership.update(17, [replace(owned(VM1), admit=True)], [], start_owned=False)
    await asyncio.sleep(0.1)
    ownership.revoked()
    await settled(ownership)

    assert hypervisor.states() == {VM1: VmState.AWAITING_ADMISSION}


async def test_a_resumed_session_starts_nothing(ownership: Ownership, hypervisor: MemoryHypervisor, state: State) -> None:
    """Without a new registration only epochs are told: a VM that its user shut off a moment ago stays off."""
    hypervisor.user_defines("one", VM1)
    ownership.update(17, [owned(VM1)], [], start_owned=False)
    await settled(ownership)

    assert hypervisor.states() == {VM1: SHUTOFF}
    assert state.epoch(VM1) == 5


async def test_r22_what_was_left_out_at_registration_is_started_when_its_host_is_told_so(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State
) -> None:
    """Another host might have had it. Only what is named is started, also by the agent's next run; what was begun goes on."""
    hypervisor.user_defines("one", VM1)
    hypervisor.user_defines("two", VM2)
    state.to_start({VM3})
    ownership.update(17, [replace(owned(VM1), start=True), owned(VM2)], [], start_owned=False)
    assert state.starting == {VM1, VM3}
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING, VM2: SHUTOFF}
    assert state.starting == {VM3}


async def test_an_agent_that_died_in_the_middle_of_its_starts_goes_on_with_them(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State
) -> None:
    """The next process of the same boot finds what was still to start, and starts it when its session is resumed."""
    hypervisor.user_defines("one", VM1)
    state.to_start({VM1})
    ownership.update(17, [owned(VM1)], [], start_owned=False)
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING}
    assert state.starting == frozenset()


@pytest.mark.parametrize("incarnation", [16, 18])
async def test_an_update_for_another_incarnation_is_ignored(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State, incarnation: int
) -> None:
    """Nothing is started, destroyed or remembered."""
    hypervisor.user_defines("one", VM1, running=True)
    hypervisor.user_defines("two", VM2)
    ownership.update(incarnation, [owned(VM2)], [Released(vm_id=VM1, epoch=9)], start_owned=True)
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING, VM2: SHUTOFF}
    assert state.newest_epoch(VM1) == 0


async def test_one_vm_that_libvirt_refuses_holds_up_no_other(ownership: Ownership, hypervisor: MemoryHypervisor) -> None:
    """A refused start is tried again while the others run already."""
    hypervisor.user_defines("one", VM1)
    hypervisor.user_defines("two", VM2)
    hypervisor.refuse[VM1] = 3
    ownership.update(17, [owned(VM1), owned(VM2)], [], start_owned=True)
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING, VM2: RUNNING}
    assert hypervisor.acts.count(("start", VM1)) == 4


async def test_what_libvirt_refuses_for_good_is_given_up(ownership: Ownership, hypervisor: MemoryHypervisor) -> None:
    """Retries are bounded; the domain is left as it is."""
    hypervisor.user_defines("one", VM1)
    hypervisor.refuse[VM1] = 1000
    ownership.update(17, [owned(VM1)], [], start_owned=True)
    await settled(ownership)

    assert hypervisor.acts.count(("start", VM1)) == ATTEMPTS
    assert hypervisor.states() == {VM1: SHUTOFF}


async def test_a_libvirt_that_is_away_is_waited_for(ownership: Ownership, hypervisor: MemoryHypervisor) -> None:
    """What must be given up and started waits, however long, and is done when libvirt is back."""
    hypervisor.user_defines("one", VM1, running=True)
    hypervisor.user_defines("two", VM2)
    hypervisor.away()
    ownership.update(17, [owned(VM2)], [Released(vm_id=VM1, epoch=9)], start_owned=True)
    await asyncio.sleep(0.1)
    assert hypervisor.states() == {VM1: RUNNING, VM2: SHUTOFF}

    hypervisor.away(False)
    await settled(ownership)

    assert hypervisor.states() == {VM2: RUNNING}


async def test_r12_a_start_waits_for_the_lease(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State, keeper: Keeper
) -> None:
    """Without a lease of this registration nothing is started; with its first ack the start goes on."""
    lasting = state.kept
    keeper.lease._kept = replace(lasting, lease_until=NEVER)
    hypervisor.user_defines("one", VM1)
    ownership.update(17, [owned(VM1)], [], start_owned=True)
    await asyncio.sleep(0.1)
    assert hypervisor.states() == {VM1: SHUTOFF}

    keeper.lease._kept = lasting
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING}


async def test_a_revoked_host_starts_nothing_more(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State, keeper: Keeper
) -> None:
    """A start that waits for libvirt when the incarnation ends does not happen."""
    hypervisor.user_defines("one", VM1)
    hypervisor.hang()
    ownership.update(17, [owned(VM1)], [], start_owned=True)
    await asyncio.sleep(0.05)
    keeper.tell(Unregistered())
    ownership.revoked()
    hypervisor.hang(False)
    await settled(ownership)

    assert hypervisor.states() == {VM1: SHUTOFF}
    assert state.starting == {VM1}


async def test_a_release_that_came_too_late_destroys_nothing(
    ownership: Ownership, hypervisor: MemoryHypervisor, state: State
) -> None:
    """The VM was admitted here again under a newer epoch while its release waited: it runs on."""
    hypervisor.user_defines("one", VM1, running=True)
    hypervisor.away()
    ownership.update(17, [], [Released(vm_id=VM1, epoch=9)], start_owned=False)
    state.told({VM1: 10}, {})
    hypervisor.away(False)
    await settled(ownership)

    assert hypervisor.states() == {VM1: RUNNING}


async def test_an_agent_that_stops_leaves_guests_alone(ownership: Ownership, hypervisor: MemoryHypervisor) -> None:
    """Closing in the middle of the work touches nothing."""
    hypervisor.user_defines("one", VM1, running=True)
    hypervisor.hang()
    ownership.update(17, [], [Released(vm_id=VM1, epoch=9)], start_owned=False)
    await ownership.close()
    hypervisor.hang(False)

    assert hypervisor.states() == {VM1: RUNNING}
