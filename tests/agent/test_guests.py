"""Tests of vmha.agent.guests: what is known of the host's domains, and when nothing is."""

from __future__ import annotations

import pytest

from tests.agent.conftest import VM1, VM2, running
from tests.support.agent_state import unmoved
from tests.support.hypervisor import MemoryHypervisor, domain_xml
from tests.support.storage import MemoryStorage, unshared
from tests.support.waiting import until
from vmha.agent import messages
from vmha.agent.departures import Departures
from vmha.agent.guests import Guest, Guests
from vmha.agent.hypervisor import DomainChange
from vmha.agent.metrics import Metrics
from vmha.agent.state import State
from vmha.agent.state_file import MemoryFile
from vmha.agent.storage_keeper import StorageKeeper
from vmha.clock import SystemClock
from vmha.domain_xml import parse_domain, with_claim
from vmha.facts import DiskStorage, VmDisk
from vmha.model import VmState


def make(hypervisor: MemoryHypervisor, *, interval_s: float = 127.0) -> Guests:
    clock = SystemClock()
    return Guests(hypervisor, unshared(), unmoved(), clock, Metrics(clock), interval_s=interval_s)


def known(guests: Guests, vm_id: str) -> Guest:
    guest = guests.get(vm_id)
    assert guest is not None
    return guest


async def test_everything_is_read_when_libvirt_connects(hypervisor: MemoryHypervisor) -> None:
    """The first table is complete, with facts and the host's capacity."""
    hypervisor.user_defines("one", VM1, running=True, instance="priority='7'")
    hypervisor.user_defines("two", VM2)
    guests = make(hypervisor)
    async with running(guests.run()):
        await until(lambda: guests.table is not None)

        assert {vm_id: guest.state for vm_id, guest in (guests.table or {}).items()} == {
            VM1: VmState.RUNNING,
            VM2: VmState.SHUTOFF,
        }
        facts = known(guests, VM1).facts
        assert facts is not None
        assert facts.priority == 7
        assert guests.host == hypervisor.facts_now


async def test_storage_and_what_was_added_live_are_in_what_is_reported(hypervisor: MemoryHypervisor) -> None:
    """Disks come with their place, the host with its shared directories, the definition with the running guest's vCPUs."""
    hypervisor.user_defines("one", VM1, running=True)
    disk = "<devices><disk type='file'><source file='/images/vm1'/><target dev='vda'/></disk></devices></domain>"
    xml = hypervisor._domains[VM1].xml.replace("</domain>", disk).replace("<vcpu>1", "<vcpu current='1'>4")
    hypervisor._domains[VM1].xml = xml
    hypervisor.live[VM1] = xml.replace("current='1'", "current='3'")
    storage = StorageKeeper(MemoryStorage(), "h1", ("/srv/shared",))
    clock = SystemClock()
    guests = Guests(hypervisor, storage, unmoved(), clock, Metrics(clock))
    async with running(guests.run()):
        await until(lambda: guests.table is not None)

    guest = known(guests, VM1)
    assert guest.facts is not None
    assert guest.facts.disks == (VmDisk(target="vda", source="/images/vm1", root=True, storage=DiskStorage.LOCAL),)
    assert guest.facts.vcpus == parse_domain(guest.domain_xml).facts.vcpus == 3
    assert guests.host is not None
    assert [directory.path for directory in guests.host.shared_directories] == ["/srv/shared"]


async def test_a_lifecycle_event_is_an_increment(hypervisor: MemoryHypervisor, guests: Guests) -> None:
    """What changed is read again, and named to listeners; nothing else is."""
    told: list[frozenset[str] | None] = []
    guests.listeners.append(told.append)
    hypervisor.user_defines("one", VM1, running=True)
    await until(lambda: VM1 in (guests.table or {}))

    assert known(guests, VM1).state is VmState.RUNNING
    assert set(told) == {frozenset({VM1})}


async def test_a_libvirt_that_is_away_is_no_empty_inventory(hypervisor: MemoryHypervisor, guests: Guests) -> None:
    """While libvirt is away nothing is known and nothing is told; when it is back, all of it is."""
    hypervisor.user_defines("one", VM1, running=True)
    await until(lambda: VM1 in (guests.table or {}))
    told: list[frozenset[str] | None] = []
    guests.listeners.append(told.append)

    hypervisor.away()
    assert guests.table is None
    assert told == []
    hypervisor.away(False)
    await until(lambda: guests.table is not None)

    assert told == [None]
    assert known(guests, VM1).state is VmState.RUNNING


async def test_the_claim_under_which_a_domain_was_created_is_reported(
    hypervisor: MemoryHypervisor, guests: Guests, state: State
) -> None:
    """R20: a store that lost the claim learns of it from the domain itself."""
    await hypervisor.define(VM1, with_claim(domain_xml("one", VM1), 7))
    await hypervisor.define(VM2, domain_xml("two", VM2))
    guests.look_at_all()
    await until(lambda: VM2 in (guests.table or {}))

    assert [messages.vm_report(known(guests, vm_id), state).claim_epoch for vm_id in (VM1, VM2)] == [7, 0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([DomainChange.UNDEFINED], "undefined"),
        ([DomainChange.DESTROYED], "destroyed"),
        ([DomainChange.MIGRATED, DomainChange.UNDEFINED], "migrated"),
        ([DomainChange.DESTROYED, DomainChange.UNDEFINED], "undefined"),
        ([DomainChange.MIGRATED, DomainChange.CHANGED, DomainChange.UNDEFINED], "undefined"),
    ],
)
async def test_a_domain_that_is_gone_is_told_with_the_reason(
    hypervisor: MemoryHypervisor, guests: Guests, changes: list[DomainChange], reason: str
) -> None:
    """An undefined VM is deleted, a migrated one lives elsewhere: the reason decides, also when both are said."""
    hypervisor.user_defines("one", VM1, running=True)
    await until(lambda: VM1 in (guests.table or {}))
    for change in changes[:-1]:
        guests.domain_changed(VM1, change)
    hypervisor.user_undefines(VM1, changes[-1])
    await until(lambda: VM1 in guests.departed)

    assert (known(guests, VM1).state, known(guests, VM1).reason) == (VmState.ABSENT, reason)
    assert VM1 not in (guests.table or {})


@pytest.mark.parametrize(("first", "reason"), [(DomainChange.DESTROYED, "undefined"), (DomainChange.MIGRATED, "migrated")])
async def test_a_reason_that_comes_after_the_domain_was_found_gone_still_counts(
    hypervisor: MemoryHypervisor, guests: Guests, first: DomainChange, reason: str
) -> None:
    """destroy and undefine in one breath: the look that follows the first event finds the domain gone, the second says why."""
    hypervisor.user_defines("one", VM1, running=True)
    await until(lambda: VM1 in (guests.table or {}))
    hypervisor.user_undefines(VM1, first)
    await until(lambda: VM1 in guests.departed)
    told: list[frozenset[str] | None] = []
    guests.listeners.append(told.append)

    guests.domain_changed(VM1, DomainChange.UNDEFINED)
    await until(lambda: told == [frozenset({VM1})])

    assert known(guests, VM1).reason == reason


async def test_r22_what_left_is_told_by_the_next_boots_agent(hypervisor: MemoryHypervisor, state: State) -> None:
    """No manager was reached before the host lost power: whether its definition is gone or left behind, the VM has left."""
    clock, file = SystemClock(), MemoryFile()
    state.told({VM1: 4}, {})
    for name, vm_id in (("one", VM1), ("two", VM2)):
        hypervisor.user_defines(name, vm_id, running=True)
    first = Guests(hypervisor, unshared(), Departures(file, state.epoch), clock, Metrics(clock))
    async with running(first.run()):
        await until(lambda: len(first.table or {}) == 2)
        hypervisor.user_undefines(VM1, DomainChange.MIGRATED)
        hypervisor.user_sets(VM2, VmState.SHUTOFF, "migrated", DomainChange.MIGRATED)
        await until(lambda: all(vm_id.encode() in (file.content or b"") for vm_id in (VM1, VM2)))

    hypervisor.user_sets(VM2, VmState.SHUTOFF, "unknown")
    second = Guests(hypervisor, unshared(), Departures(file, state.epoch), clock, Metrics(clock))
    async with running(second.run()):
        await until(lambda: second.table is not None)
        told = {
            vm_id: (known(second, vm_id).name, known(second, vm_id).state, known(second, vm_id).reason) for vm_id in (VM1, VM2)
        }
        assert told == {VM1: ("one", VmState.ABSENT, "migrated"), VM2: ("two", VmState.SHUTOFF, "migrated")}
        state.told({VM1: 9}, {})
        assert messages.vm_report(known(second, VM1), state).epoch == 4, "of the epoch under which it left"

        hypervisor.user_sets(VM2, VmState.PAUSED, "migration")
        await until(lambda: known(second, VM2).state is VmState.PAUSED)
        assert VM2 in second.departures.untold, "it is only on its way back"
        hypervisor.user_sets(VM2, VmState.RUNNING)
        await until(lambda: known(second, VM2).state is VmState.RUNNING)
        assert second.departures.untold.keys() == {VM1}


async def test_what_no_event_told_is_found_by_the_slow_round(hypervisor: MemoryHypervisor) -> None:
    """Everything is read again each interval: autostart, for one, has no event."""
    hypervisor.user_defines("one", VM1)
    guests = make(hypervisor, interval_s=0.05)
    async with running(guests.run()):
        await until(lambda: VM1 in (guests.table or {}))
        hypervisor._domains[VM1].autostart = True
        await until(lambda: known(guests, VM1).autostart)


async def test_a_read_that_fails_is_repeated(hypervisor: MemoryHypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libvirt answers, then fails in the middle: the table is read again until it is complete."""
    monkeypatch.setattr("vmha.agent.guests.RETRY_S", 0.01)
    hypervisor.user_defines("one", VM1)
    guests = make(hypervisor)
    hypervisor._up = False
    async with running(guests.run()):
        guests.connected()
        hypervisor._watcher = guests
        hypervisor._up = True
        await until(lambda: VM1 in (guests.table or {}))


def test_a_large_inventory_comes_in_bounded_messages(state: State) -> None:
    """Each message stays below the manager's limit, all but the last say that more follow, and no VM is lost."""
    everyone = [Guest(vm_id=f"{n:08d}-0000-4000-8000-000000000000", name=f"vm{n}", state=VmState.RUNNING,
                      domain_xml="x" * 200_000) for n in range(9)]  # fmt: skip
    parts = messages.inventory(everyone, None, state, full=True)

    assert all(part.ByteSize() < 1024 * 1024 for part in parts)
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert [vm.name for part in parts for vm in part.vms] == [guest.name for guest in everyone]


def test_an_inventory_without_vms_is_still_one(state: State) -> None:
    """A host that has no VM says so in one message."""
    (part,) = messages.inventory([], None, state, full=True)

    assert (part.full, part.more, len(part.vms)) == (True, False, 0)
