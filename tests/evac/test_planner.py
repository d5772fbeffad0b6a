"""From what the store knows to journal entries: outcomes by rule, promises kept, and plans of drains."""

from __future__ import annotations

from dataclasses import replace

from bench.placement_clusters import host_of, vm_of
from vmha.evac import drain_plan
from vmha.evac.planner import Situation, first_entries, moved, plan
from vmha.evac.reasons import VmReason
from vmha.facts import DiskStorage, HostFacts, VmDisk, VmFacts
from vmha.model import ClusterConfig, EvacuationState, Group, GroupMode, GroupPolicy, HostState, VmOutcome, VmState, VmStep
from vmha.store.records import ClusterRecord, ClusterSnapshot, EvacuationRecord, HostRecord, VmEntry, VmRecord

FACTS = HostFacts(vcpus=16, memory_mib=1000, cpu_model="EPYC", machines=("q35",))
LOST = replace(host_of("h1", FACTS), state=HostState.FENCED)
EVACUATION = EvacuationRecord(
    evacuation_id="e", cluster_id="c", host_id="h1", fence_epoch=1, incarnation=5, state=EvacuationState.PLANNING
)


def vm(vm_id: str, owner: str = "h1", **facts: object) -> VmRecord:
    return vm_of(vm_id, owner, VmFacts(**{"memory_mib": 100, **facts}))  # type: ignore[arg-type]


def situation(
    hosts: list[HostRecord], vms: list[VmRecord], groups: tuple[Group, ...] = (), journaled: tuple[VmEntry, ...] = ()
) -> Situation:
    cluster = ClusterRecord(
        cluster_id="c",
        config=ClusterConfig(image_directory="/srv/images"),
        ha_enabled=True,
        version=1,
        config_version=0,
        store_generation=1,
    )
    by_id = {group.group_id: group for group in groups}
    snapshot = ClusterSnapshot(cluster=cluster, hosts={h.host_id: h for h in hosts}, groups=by_id)
    return Situation(snapshot=snapshot, vms=vms, journaled=journaled)


def planned(around: Situation, entries: list[VmEntry] | None = None) -> dict[str, VmEntry]:
    made = plan(EVACUATION, entries or first_entries(EVACUATION, around.vms), around)
    return {entry.vm_id: entry for entry in made.entries}


def pair(mode: GroupMode = GroupMode.HARD, policy: GroupPolicy = GroupPolicy.AFFINITY) -> Group:
    return Group(group_id="g", policy=policy, mode=mode, vm_ids=("a", "b"))


def test_s24_a_lost_root_disk_is_journaled_with_its_image() -> None:
    """The entry has a target and the image; one that moves with its disks has none."""
    root = VmDisk(target="vda", storage=DiskStorage.LOCAL, source="/var/a", root=True)
    found = planned(situation([LOST, host_of("h2", FACTS)], [vm("a", disks=(root,), image="debian"), vm("b", image="debian")]))

    assert {entry.image: entry.target_host_id for entry in found.values()} == {"debian": "h2", "": "h2"}


def test_s26_what_no_host_could_run_is_settled_and_the_others_move() -> None:
    """A device of the lost host fails its VM alone."""
    found = planned(situation([LOST, host_of("h2", FACTS)], [vm("a", has_passthrough=True), vm("b")]))

    assert (found["a"].step, found["a"].outcome, found["a"].reason) == (VmStep.SETTLED, VmOutcome.FAILED, "PASSTHROUGH_DEVICE")
    assert found["b"].target_host_id == "h2"


def test_s25_a_vm_waits_for_its_volume_and_goes_when_a_server_is_back() -> None:
    """PENDING while none of the hosts that serve its volume is up; placed by the next plan after one is."""
    disk = VmDisk(target="vda", storage=DiskStorage.VOLUME, source="pool/a", servers=("h1",), root=True)
    vms = [vm("a", disks=(disk,))]
    waits = planned(situation([LOST, host_of("h2", FACTS)], vms))["a"]
    goes = planned(situation([host_of("h1", FACTS), host_of("h2", FACTS)], vms), [waits])["a"]

    assert (waits.outcome, waits.reason) == (VmOutcome.PENDING, VmReason.VOLUME_UNAVAILABLE)
    assert "h1" in waits.message
    assert (goes.outcome, goes.target_host_id) == (VmOutcome.OPEN, "h2")


def test_b04_what_waits_is_placed_when_a_host_comes() -> None:
    """No room: PENDING with the reason; the same entry gets a target once there is one."""
    small = host_of("h2", replace(FACTS, memory_mib=50))
    waits = planned(situation([LOST, small], [vm("a")]))["a"]
    goes = planned(situation([LOST, small, host_of("h3", FACTS)], [vm("a")]), [waits])["a"]

    assert (waits.outcome, waits.reason) == (VmOutcome.PENDING, VmReason.NO_CAPACITY)
    assert (goes.outcome, goes.target_host_id, goes.reason) == (VmOutcome.OPEN, "h3", "")


def test_a_group_follows_a_member_that_another_evacuation_was_promised_a_host_for() -> None:
    """A VM of another dead host counts where its evacuation has planned it, before it is claimed."""
    other = replace(host_of("h3", FACTS), state=HostState.EVACUATING)
    promise = VmEntry(vm_id="b", vm_name="b", step=VmStep.PLANNED, target_host_id="h4", source_epoch=1)
    hosts = [LOST, host_of("h2", replace(FACTS, memory_mib=2000)), other, host_of("h4", FACTS)]
    found = planned(situation(hosts, [vm("a"), vm("b", "h3")], (pair(),), (promise,)))

    assert found["a"].target_host_id == "h4"


def test_a_failed_start_takes_its_hard_group_to_another_host() -> None:
    """One of two that must be together was refused; both were planned, none claimed: both go elsewhere."""
    around = situation([LOST, host_of("h2", FACTS), host_of("h3", FACTS)], [vm("a"), vm("b")], (pair(),))
    first = planned(around)
    refused = first["a"].target_host_id
    again = planned(around, [replace(first["a"], attempts=(refused,)), first["b"]])

    assert {entry.target_host_id for entry in again.values()} == {"h2", "h3"} - {refused}


def test_a_claimed_member_binds_the_others() -> None:
    """It is owned by its target already: the other one goes there, or waits."""
    hosts = [LOST, host_of("h2", replace(FACTS, memory_mib=150)), host_of("h3", FACTS)]
    found = planned(situation(hosts, [vm("a"), vm("b", "h2")], (pair(),)))

    assert (found["a"].outcome, found["a"].reason) == (VmOutcome.PENDING, VmReason.HARD_AFFINITY)


def test_s18_a_broken_soft_group_stays_on_record_when_the_vm_has_moved() -> None:
    """Through setbacks with reasons of their own; one that breaks nothing has no reason."""
    around = situation([LOST, host_of("h2", FACTS)], [vm("a"), vm("b")], (pair(GroupMode.SOFT, GroupPolicy.ANTI_AFFINITY),))
    entry = replace(planned(around)["a"], reason=VmReason.OUTCOME_UNKNOWN, message="no answer")

    assert entry.violated == ("SOFT_ANTI_AFFINITY:g",)
    assert (moved(entry).outcome, moved(entry).reason) == (VmOutcome.MOVED, VmReason.SOFT_ANTI_AFFINITY_BROKEN)
    assert "SOFT_ANTI_AFFINITY:g" in moved(entry).message
    assert moved(replace(entry, violated=())).reason == ""


def test_s27_a_drain_takes_paused_vms_along_and_leaves_what_cannot_migrate() -> None:
    """The same CPU is needed; local disks and devices stay, with their reason; what was tried in vain is not tried again."""
    root = VmDisk(target="vda", storage=DiskStorage.LOCAL, source="/var/a", root=True)
    paused = replace(vm("p"), state=VmState.PAUSED, desired_state=VmState.PAUSED)
    vms = [paused, vm("m"), vm("l", disks=(root,)), vm("d", has_passthrough=True), replace(vm("off"), state=VmState.SHUTOFF)]
    source = replace(host_of("h1", FACTS), in_maintenance=True)
    hosts = [source, host_of("h2", FACTS), host_of("h3", replace(FACTS, cpu_model="Skylake")), host_of("h4", FACTS)]
    tried = {"m": ("h2",), "p": ("h4",)}
    entries = [replace(entry, attempts=tried.get(entry.vm_id, ())) for entry in first_entries(EVACUATION, vms)]
    found = {entry.vm_id: entry for entry in drain_plan.plan(EVACUATION, source, entries, situation(hosts, vms)).entries}

    assert {vm_id: entry.target_host_id for vm_id, entry in found.items() if entry.target_host_id} == {"p": "h2", "m": "h4"}
    assert (found["l"].reason, found["d"].reason) == (VmReason.LOCAL_DISK, VmReason.PASSTHROUGH_DEVICE)
    alone = drain_plan.plan(EVACUATION, source, first_entries(EVACUATION, [vm("m")]), situation([source, hosts[2]], [vm("m")]))
    assert [entry.reason for entry in alone.entries] == [VmReason.CPU_INCOMPATIBLE]
