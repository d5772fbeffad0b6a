"""What of a host can be migrated live, and where it goes: pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmha.evac.drain import TRIES
from vmha.evac.drain_plan import new_entries, plan
from vmha.evac.planner import Situation
from vmha.evac.reasons import VmReason
from vmha.facts import DiskStorage, HostFacts, VmDisk, VmFacts
from vmha.model import (
    ClusterConfig,
    EvacuationKind,
    EvacuationState,
    HostConfig,
    HostState,
    VmOutcome,
    VmState,
    VmStep,
)
from vmha.store.records import ClusterRecord, ClusterSnapshot, EvacuationRecord, HostRecord, VmEntry, VmRecord

DRAIN = EvacuationRecord(
    evacuation_id="d",
    cluster_id="c1",
    host_id="h1",
    fence_epoch=0,
    incarnation=1,
    state=EvacuationState.PLANNING,
    kind=EvacuationKind.DRAIN,
)


def make_host(host_id: str) -> HostRecord:
    config = HostConfig(probe_target="p:1", agent_target="a:1", libvirt_uri=f"test:///{host_id}")
    facts = HostFacts(vcpus=8, memory_mib=1000)
    return HostRecord(
        host_id=host_id, cluster_id="c1", config=config, version=1, state=HostState.HEALTHY, incarnation=5, facts=facts
    )


def vm(vm_id: str = "a", *, state: VmState = VmState.RUNNING, desired: VmState = VmState.RUNNING, **more: Any) -> VmRecord:
    facts = VmFacts(vcpus=1, memory_mib=100, **more.pop("facts", {}))
    parts: dict[str, Any] = {"owner_host_id": "h1", "owner_incarnation": 1, "epoch": 3, **more}
    return VmRecord(vm_id=vm_id, name=vm_id, state=state, desired_state=desired, facts=facts, **parts)


def situation(*vms: VmRecord, stop: bool = False, safe: bool = False, **more: Any) -> tuple[HostRecord, Situation]:
    """h1 is drained; h2 and h3 have room."""
    source = replace(make_host("h1"), in_maintenance=True, drain_stop=stop)
    hosts = {"h1": source, "h2": make_host("h2"), "h3": make_host("h3")}
    cluster = ClusterRecord(
        cluster_id="c1",
        config=ClusterConfig(),
        ha_enabled=False,
        version=1,
        config_version=0,
        store_generation=1,
        awaited=("h3",) if safe else (),
    )
    return source, Situation(snapshot=ClusterSnapshot(cluster=cluster, hosts=hosts, groups={}), vms=vms, **more)


def planned(*vms: VmRecord, **more: Any) -> dict[str, VmEntry]:
    source, around = situation(*vms, **more)
    made = plan(DRAIN, source, new_entries(DRAIN, vms, frozenset()), around)
    assert {e.vm_id for e in made.entries if e.outcome is VmOutcome.OPEN} == set(made.targets)
    return {entry.vm_id: entry for entry in made.entries}


@pytest.mark.parametrize(
    "moved",
    [
        vm(),
        vm(state=VmState.PAUSED, desired=VmState.PAUSED),
        vm(state=VmState.AWAITING_ADMISSION, desired=VmState.PAUSED),
        vm(facts={"ha_enabled": False}),
        vm(facts={"disks": (VmDisk(target="vda", storage=DiskStorage.SHARED), VmDisk(target="vdb"))}),
    ],
)
def test_s14_what_is_there_leaves(moved: VmRecord) -> None:
    """Running, paused by its user here or where it came from, with its protection off: nothing is started anew."""
    entry = planned(moved)["a"]

    assert (entry.step, entry.target_host_id in {"h2", "h3"}, entry.source_epoch) == (VmStep.PLANNED, True, 3)


@pytest.mark.parametrize(
    ("stays", "outcome", "reason"),
    [
        (vm(facts={"has_passthrough": True}), VmOutcome.FAILED, VmReason.PASSTHROUGH_DEVICE),
        (vm(facts={"disks": (VmDisk(target="vda", storage=DiskStorage.LOCAL),)}), VmOutcome.FAILED, VmReason.LOCAL_DISK),
        (vm(facts={"has_vtpm": True}), VmOutcome.FAILED, VmReason.VTPM_STATE_NOT_SHARED),
        (vm(facts={"resize_unconfirmed": True}), VmOutcome.FAILED, VmReason.RESIZE_UNCONFIRMED),
        (vm(state=VmState.SHUTOFF, desired=VmState.SHUTOFF), VmOutcome.SKIPPED, VmReason.VM_SHUTOFF),
        (vm(state=VmState.SHUTOFF), VmOutcome.PENDING, VmReason.VM_NOT_RUNNING),
        (vm(state=VmState.AWAITING_ADMISSION), VmOutcome.PENDING, VmReason.VM_NOT_RUNNING),
        (vm(seen_on="h2", seen_state=VmState.PAUSED), VmOutcome.PENDING, VmReason.VM_MIGRATING),
    ],
)
def test_s14_what_stays_has_its_reason(stays: VmRecord, outcome: VmOutcome, reason: str) -> None:
    """Each kind of VM that cannot or need not be moved, or not now."""
    entry = planned(stays)["a"]

    assert (entry.outcome, entry.reason) == (outcome, reason)


def test_s14_with_stop_they_are_named_to_be_stopped() -> None:
    """PENDING with their reason, and among `stops`; what only waits for somebody is not."""
    vms = (vm("a", facts={"has_passthrough": True}), vm("b", seen_on="h2", seen_state=VmState.PAUSED), vm("c"))
    source, around = situation(*vms, stop=True)

    made = plan(DRAIN, source, new_entries(DRAIN, vms, frozenset()), around)

    assert made.stops == {"a"}
    assert set(made.targets) == {"c"}


def test_s14_after_its_tries_a_vm_is_left_with_the_last_words() -> None:
    """TRIES attempts, or no host that was not tried: MIGRATION_REFUSED."""
    source, around = situation(vm("a"), vm("b"))
    tried = VmEntry(vm_id="a", vm_name="a", attempts=("x",) * TRIES, message="unsafe")
    everywhere = VmEntry(vm_id="b", vm_name="b", attempts=("h2", "h3"), message="unsafe")

    made = plan(DRAIN, source, [tried, everywhere], around)

    assert {(e.outcome, e.reason) for e in made.entries} == {(VmOutcome.FAILED, VmReason.MIGRATION_REFUSED)}
    assert all("unsafe" in entry.message for entry in made.entries)


def test_s27_room_that_is_promised_or_on_its_way_is_not_given_twice() -> None:
    """A VM on its way holds its target's memory, though its owner is still the source."""
    big = make_host("h2").facts
    assert big is not None
    other = vm("z", owner_host_id="h9")
    other = replace(other, facts=replace(other.facts, memory_mib=big.memory_mib))
    going = VmEntry(vm_id="z", vm_name="z", step=VmStep.MIGRATING, target_host_id="h2")
    source, around = situation(vm("a"), other, journaled=(going,))

    assert plan(DRAIN, source, new_entries(DRAIN, [vm("a")], frozenset()), around).targets == {"a": "h3"}


def test_what_is_not_this_hosts_any_more_is_done() -> None:
    """Deleted, or another host's: SKIPPED, whatever else is known of it; in safe mode the rest waits."""
    entries = [VmEntry(vm_id=vm_id, vm_name=vm_id) for vm_id in ("a", "b", "c")]
    source, around = situation(vm("a", owner_host_id="h2"), vm("c"), safe=True)

    made = {entry.vm_id: entry for entry in plan(DRAIN, source, entries, around).entries}

    assert [made[i].reason for i in "abc"] == [VmReason.TAKEN_OVER, VmReason.VM_DELETED, VmReason.SAFE_MODE]


def test_what_came_since_is_new() -> None:
    """A VM that was started on the host in the middle of its drain gets an entry, one that is known does not get another."""
    assert [e.vm_id for e in new_entries(DRAIN, [vm("a"), vm("b"), vm("c", owner_host_id="h2")], frozenset("a"))] == ["b"]
