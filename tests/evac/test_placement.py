"""Placement and rules, by random clusters and by cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmha.evac.placement import Demand, measure, place, refusal
from vmha.evac.reasons import HostRefusal, VmReason
from vmha.evac.rules import judge
from vmha.facts import HostFacts, VmFacts
from vmha.model import ClusterConfig, HostConfig, HostState, VmOutcome, VmState
from vmha.store.records import HostRecord, VmRecord

CONFIG = HostConfig(probe_target="h:1", agent_target="h:2", libvirt_uri="test:///default")


def host(host_id: str, memory_mib: int = 1000, vcpus: int = 8) -> HostRecord:
    return HostRecord(
        host_id=host_id,
        cluster_id="c",
        config=CONFIG,
        version=1,
        state=HostState.HEALTHY,
        incarnation=5,
        facts=HostFacts(vcpus=vcpus, memory_mib=memory_mib),
    )


def vm(vm_id: str, owner: str = "h1", *, memory_mib: int = 100, vcpus: int = 1, priority: int = 0) -> VmRecord:
    return VmRecord(
        vm_id=vm_id,
        name=vm_id,
        owner_host_id=owner,
        owner_incarnation=5,
        epoch=1,
        desired_state=VmState.RUNNING,
        state=VmState.RUNNING,
        domain_xml="<domain/>",
        facts=VmFacts(vcpus=vcpus, memory_mib=memory_mib, priority=priority),
    )


def demand(record: VmRecord, *refused_by: str) -> Demand:
    return Demand(vm_id=record.vm_id, facts=record.facts, refused_by=frozenset(refused_by))


SIZES = st.integers(0, 300)
HOSTS = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 16)), max_size=6)
VMS = st.lists(st.tuples(SIZES, st.integers(1, 4), st.integers(0, 2)), max_size=25)


@settings(max_examples=300, deadline=None)
@given(
    hosts=HOSTS,
    resident=VMS,
    moved=VMS,
    reserve=st.sampled_from([0.0, 0.25]),
    overcommit=st.sampled_from([1.0, 4.0]),
    data=st.data(),
)
def test_no_target_is_overcommitted_and_the_order_of_input_does_not_matter(
    hosts: list[tuple[int, int]],
    resident: list[tuple[int, int, int]],
    moved: list[tuple[int, int, int]],
    reserve: float,
    overcommit: float,
    data: st.DataObject,
) -> None:
    """What a host owns and gets fits into its memory less the reserve and its vCPUs times the overcommit; any permutation of
    hosts and VMs gives the same targets; a VM without a target would have fitted nowhere; each has a target or a reason."""
    config = ClusterConfig(reserve_fraction=reserve, cpu_overcommit=overcommit)
    records = [host(f"h{n + 2}", m, v) for n, (m, v) in enumerate(hosts)]
    owned = [
        vm(f"r{n}", f"h{2 + n % max(1, len(hosts))}", memory_mib=m, vcpus=v) for n, (m, v, _) in enumerate(resident) if hosts
    ]
    orphans = [vm(f"m{n}", memory_mib=m, vcpus=v, priority=p) for n, (m, v, p) in enumerate(moved)]

    rooms = measure([*records, host("h1")], [*owned, *orphans], config, "h1")
    before = dict(rooms.free)
    placed = place([demand(v) for v in orphans], rooms)

    mixed = measure(
        data.draw(st.permutations([*records, host("h1")])), data.draw(st.permutations([*owned, *orphans])), config, "h1"
    )
    assert place([demand(v) for v in data.draw(st.permutations(orphans))], mixed) == placed

    by_id = {v.vm_id: v for v in orphans}
    assert sorted(p.vm_id for p in placed) == sorted(by_id)
    left = dict(before)
    for placement in placed:
        facts = by_id[placement.vm_id].facts
        fits = [h for h, (m, v) in left.items() if m >= facts.memory_mib and v >= facts.vcpus]
        if placement.host_id:
            assert placement.host_id in fits
            memory_mib, vcpus = left[placement.host_id]
            left[placement.host_id] = (memory_mib - facts.memory_mib, vcpus - facts.vcpus)
            assert min(left[placement.host_id]) >= 0
        else:
            assert fits == []
            assert placement.reason in {VmReason.NO_CAPACITY, VmReason.NO_HOST}
            assert placement.message
    priorities = [by_id[p.vm_id].facts.priority for p in placed]
    assert priorities == sorted(priorities, reverse=True)


def test_most_free_memory_first_then_the_name() -> None:
    """Targets are taken by free memory; equal ones by host_id."""
    rooms = measure([host("h4"), host("h3"), host("h2", 900)], [], ClusterConfig(), "h1")

    placed = place([demand(vm(f"m{n}")) for n in range(4)], rooms)

    assert [p.host_id for p in placed] == ["h3", "h4", "h2", "h3"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"host_id": "h1"}, HostRefusal.FAILED_HOST),
        ({"in_maintenance": True}, HostRefusal.IN_MAINTENANCE),
        ({"state": HostState.SUSPECT}, HostRefusal.NOT_HEALTHY),
        ({"state": HostState.AGENT_LOST}, HostRefusal.NOT_HEALTHY),
        ({"state": HostState.ISOLATED}, HostRefusal.NOT_HEALTHY),
        ({"state_reason": "FLAPPING"}, HostRefusal.FLAPPING),
        ({"incarnation": 0}, HostRefusal.NOT_REGISTERED),
        ({"incarnation_revoked": True}, HostRefusal.NOT_REGISTERED),
        ({"config": replace(CONFIG, roles=("block-storage",))}, HostRefusal.NOT_A_HYPERVISOR),
        ({"facts": None}, HostRefusal.NO_FACTS),
        ({}, None),
    ],
)
def test_who_is_no_target(changes: dict[str, object], why: HostRefusal | None) -> None:
    """Only a healthy, registered hypervisor that is not the failed host may get VMs."""
    assert refusal(replace(host("h2"), **changes), "h1") is why  # type: ignore[arg-type]


def test_every_refusal_is_explained() -> None:
    """The message of a VM without a target names each host with its reason."""
    hosts = [host("h1"), host("h2", 10), host("h3", vcpus=1), replace(host("h4"), in_maintenance=True), host("h5")]
    [placed] = place([demand(vm("m", memory_mib=50, vcpus=2), "h5")], measure(hosts, [], ClusterConfig(), "h1"))

    assert placed.reason is VmReason.NO_CAPACITY
    for part in ("FAILED_HOST: h1", "MEMORY_FULL: h2", "VCPUS_FULL: h3", "IN_MAINTENANCE: h4", "REFUSED_BEFORE: h5", "50 MiB"):
        assert part in placed.message


def test_a_vm_that_all_refused_is_told_from_one_without_room() -> None:
    """All candidates refused it: START_REFUSED; no candidate at all: NO_HOST."""
    [refused] = place([demand(vm("m"), "h2")], measure([host("h2")], [], ClusterConfig(), "h1"))
    [alone] = place([demand(vm("m"))], measure([host("h1")], [], ClusterConfig(), "h1"))

    assert refused.reason is VmReason.START_REFUSED
    assert alone.reason is VmReason.NO_HOST


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"facts": VmFacts(ha_enabled=False)}, (VmOutcome.SKIPPED, VmReason.HA_OFF)),
        ({"desired_state": VmState.PAUSED, "state": VmState.PAUSED}, (VmOutcome.SKIPPED, VmReason.VM_PAUSED)),
        ({"desired_state": VmState.SHUTOFF, "state": VmState.SHUTOFF}, (VmOutcome.SKIPPED, VmReason.VM_SHUTOFF)),
        ({"desired_state": VmState.RUNNING, "state": VmState.SHUTOFF}, None),
        ({"desired_state": VmState.RUNNING, "state": VmState.CRASHED}, None),
        ({"desired_state": VmState.UNSPECIFIED, "state": VmState.SHUTOFF}, (VmOutcome.SKIPPED, VmReason.VM_SHUTOFF)),
        ({"domain_xml": ""}, (VmOutcome.FAILED, VmReason.NO_DEFINITION)),
    ],
)
def test_s20_paused_vms_are_left_and_shut_off_ones_not_started(
    changes: dict[str, object], expected: tuple[VmOutcome, VmReason] | None
) -> None:
    """What its user paused or shut off stays; what should run and was caught in a host's shutdown or crash goes."""
    verdict = judge(replace(vm("m"), **changes))  # type: ignore[arg-type]

    assert (verdict and (verdict.outcome, verdict.reason)) == expected
