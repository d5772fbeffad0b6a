"""Rules about a VM alone, and about a VM and a kind of host; each by what it refuses and what it lets go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.placement_clusters import host_of, vm_of
from vmha.evac.pair_rules import LIVE_PAIR_RULES, PAIR_RULES, kind_of, refused, wants_of
from vmha.evac.reasons import HostRefusal, VmReason
from vmha.evac.rules import LIVE_RULES, Surroundings, judge, rebuilt_from, surroundings
from vmha.facts import DiskStorage, HostFacts, SharedDirectory, VmDisk, VmFacts
from vmha.model import ClusterConfig, HostConfig, HostState, VmOutcome, VmState
from vmha.store.records import ClusterRecord, ClusterSnapshot, HostRecord, VmRecord

FACTS = HostFacts(vcpus=8, memory_mib=8192)
LOCAL_ROOT = VmDisk(target="vda", storage=DiskStorage.LOCAL, source="/var/lib/a", root=True)
VOLUME = VmDisk(target="vdb", storage=DiskStorage.VOLUME, source="pool/a", servers=("h2", "10.0.0.3"))
NFS = SharedDirectory(path="/srv/nfs", storage_id="s1")


def vm(**facts: object) -> VmRecord:
    return vm_of("m", "h1", VmFacts(**facts))  # type: ignore[arg-type]


def reason(record: VmRecord, around: Surroundings | None = None) -> tuple[VmOutcome, VmReason] | None:
    verdict = judge(record, around)
    return (verdict.outcome, verdict.reason) if verdict else None


def snapshot(*hosts: HostRecord, image_directory: str = "") -> ClusterSnapshot:
    cluster = ClusterRecord(
        cluster_id="c",
        config=ClusterConfig(image_directory=image_directory),
        ha_enabled=True,
        version=1,
        config_version=0,
        store_generation=1,
    )
    return ClusterSnapshot(cluster=cluster, hosts={host.host_id: host for host in hosts}, groups={})


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
    assert reason(replace(vm(), **changes)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "fails"),
    [(None, True), (FACTS, True), (replace(FACTS, tpm_storage_id="s1"), False)],
)
def test_s21_a_vtpm_moves_only_where_its_state_is_proven_to_be_shared(source: HostFacts | None, fails: bool) -> None:
    """Nothing known of the old host counts as not shared; and the target has to have the same storage, known for certain."""
    expected = (VmOutcome.FAILED, VmReason.VTPM_STATE_NOT_SHARED) if fails else None

    assert reason(vm(has_vtpm=True), Surroundings(source=source)) == expected

    wants = wants_of(VmFacts(has_vtpm=True), replace(FACTS, tpm_storage_id="s1"))
    there = {
        storage_id: refused(wants, kind_of((), replace(FACTS, tpm_storage_id=storage_id)), PAIR_RULES)
        for storage_id in ("s1", "s2", "")
    }
    assert there == {"s1": None, "s2": HostRefusal.VTPM_STATE_ELSEWHERE, "": HostRefusal.VTPM_STATE_ELSEWHERE}


def test_s23_a_resize_that_nobody_confirmed_fails() -> None:
    """The reason is the VM's own, and no host can change it."""
    assert reason(vm(resize_unconfirmed=True)) == (VmOutcome.FAILED, VmReason.RESIZE_UNCONFIRMED)


def test_s26_a_passed_through_device_keeps_its_vm() -> None:
    """It fails with its reason, and cannot migrate either."""
    gpu = vm(has_passthrough=True)

    assert reason(gpu) == (VmOutcome.FAILED, VmReason.PASSTHROUGH_DEVICE)
    assert (verdict := judge(gpu, rules=LIVE_RULES)) is not None
    assert verdict.reason is VmReason.PASSTHROUGH_DEVICE


@pytest.mark.parametrize(
    ("image", "directory", "expected"),
    [
        ("debian", "/srv/images", None),
        ("", "/srv/images", VmReason.LOCAL_DISK_NO_IMAGE),
        ("debian", "", VmReason.LOCAL_DISK_NO_IMAGE),
    ],
)
def test_s24_a_local_root_disk_is_made_anew_from_an_image_or_the_vm_fails(
    image: str, directory: str, expected: VmReason | None
) -> None:
    """With an image and a place where images lie the image is named, else the VM fails with what is missing."""
    local, around = vm(disks=(LOCAL_ROOT,), image=image), Surroundings(image_directory=directory)

    assert reason(local, around) == (expected and (VmOutcome.FAILED, expected))
    assert rebuilt_from(local, around) == ("debian" if expected is None else "")
    assert rebuilt_from(vm(image="debian"), around) == ""


def test_s24_another_local_disk_fails_by_name() -> None:
    """Its content cannot be made anew; a live migration takes no local disk along at all."""
    data = replace(LOCAL_ROOT, target="vdb", root=False)
    verdict = judge(vm(disks=(data,), image="debian"), Surroundings(image_directory="/srv/images"))

    assert verdict is not None
    assert (verdict.reason, "vdb" in verdict.message) == (VmReason.LOCAL_DATA_DISK, True)
    live = judge(vm(disks=(LOCAL_ROOT,), image="debian"), rules=LIVE_RULES)
    assert live is not None
    assert live.reason is VmReason.LOCAL_DISK


@pytest.mark.parametrize(
    ("states", "servers", "waits"),
    [
        (("DOWN", "DOWN"), VOLUME.servers, True),
        (("DOWN", "HEALTHY"), VOLUME.servers, False),
        (("IN_MAINTENANCE", "DOWN"), VOLUME.servers, False),
        (("DOWN", "DOWN"), ("h2", "ceph.elsewhere"), False),
        (("DOWN", "DOWN"), (), False),
    ],
)
def test_s25_a_vm_waits_for_its_volume(states: tuple[str, str], servers: tuple[str, ...], waits: bool) -> None:
    """None of the hosts that serve it is up: PENDING, naming them. A server outside of the cluster may be up."""
    h2, h3 = (replace(host_of(f"h{n}", FACTS), state=HostState(state)) for n, state in zip((2, 3), states, strict=True))
    h2 = replace(h2, config=HostConfig(probe_target="10.0.0.2:9177", agent_target="10.0.0.2:1", libvirt_uri="qemu:///system"))
    h3 = replace(
        h3, config=HostConfig(probe_target="[fe80::3]:9177", agent_target="h3:1", libvirt_uri="qemu+tcp://10.0.0.3/system")
    )
    verdict = judge(vm(disks=(replace(VOLUME, servers=servers),)), surroundings(snapshot(h2, h3), "h1"))

    assert (verdict and (verdict.outcome, verdict.reason)) == (
        (VmOutcome.PENDING, VmReason.VOLUME_UNAVAILABLE) if waits else None
    )
    assert verdict is None or all(name in verdict.message for name in servers)


@pytest.mark.parametrize(
    ("vm_facts", "source", "host", "expected"),
    [
        ({"aggregates": ("ssd",)}, {}, {}, HostRefusal.AGGREGATE_DIFFERS),
        ({}, {"operating_system": "debian 12"}, {"operating_system": "debian 13"}, HostRefusal.OS_VERSION_DIFFERS),
        ({}, {"operating_system": "debian 12"}, {}, None),
        (
            {"cpu_mode": "custom", "cpu_model": "EPYC"},
            {"cpu_models": ("EPYC",)},
            {"cpu_models": ("Skylake",)},
            HostRefusal.CPU_INCOMPATIBLE,
        ),
        ({"cpu_mode": "custom", "cpu_model": "qemu64"}, {"cpu_models": ("EPYC",)}, {"cpu_models": ("EPYC",)}, None),
        ({"cpu_mode": "custom", "cpu_model": "EPYC"}, {}, {}, None),
        ({"cpu_mode": "host-model", "cpu_model": "EPYC"}, {}, {"cpu_models": ("Skylake",)}, None),
        ({"machine": "pc-q35-9.0"}, {}, {"machines": ("pc-q35-7.2",)}, HostRefusal.MACHINE_UNSUPPORTED),
        ({"machine": "pc-q35-9.0"}, {}, {}, None),
        ({"hugepage_kib": 2048}, {}, {"hugepages": {1048576: 4}}, HostRefusal.HUGEPAGES_MISSING),
        ({"hugepage_kib": -1}, {}, {"machines": ("q35",)}, HostRefusal.HUGEPAGES_MISSING),
        ({"hugepage_kib": -1}, {}, {}, None),
    ],
)
def test_s14_s16_what_a_host_must_have(
    vm_facts: dict[str, object], source: dict[str, object], host: dict[str, object], expected: HostRefusal | None
) -> None:
    """Each pair rule refuses what it is there for; what is not known refuses nothing."""
    wants = wants_of(VmFacts(**vm_facts), replace(FACTS, **source))  # type: ignore[arg-type]

    assert refused(wants, kind_of((), replace(FACTS, **host)), PAIR_RULES) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("directories", "machines", "expected"),
    [
        ((NFS,), ("q35",), None),
        ((replace(NFS, storage_id="s2"),), ("q35",), HostRefusal.STORAGE_NOT_SHARED),
        ((replace(NFS, path="/mnt"),), ("q35",), HostRefusal.STORAGE_NOT_SHARED),
        ((), ("q35",), HostRefusal.STORAGE_NOT_SHARED),
        ((), (), None),
    ],
)
def test_s13_shared_disks_need_the_same_storage_under_the_same_path(
    directories: tuple[SharedDirectory, ...], machines: tuple[str, ...], expected: HostRefusal | None
) -> None:
    """Another storage, another path or none refuses; an old agent, which reports neither storage nor machines, does not."""
    disk = VmDisk(target="vda", storage=DiskStorage.SHARED, source="/srv/nfs/a/disk", storage_id="s1", root=True)
    wants = wants_of(VmFacts(disks=(disk,)), replace(FACTS, shared_directories=(NFS,)))

    host = replace(FACTS, shared_directories=directories, machines=machines)
    assert refused(wants, kind_of((), host), PAIR_RULES) is expected


@pytest.mark.parametrize(
    ("mode", "there", "expected"),
    [
        ("host-model", "Skylake", HostRefusal.CPU_INCOMPATIBLE),
        ("host-model", "EPYC", None),
        ("host-model", "", None),
        ("custom", "Skylake", None),
    ],
)
def test_s27_a_running_guest_sees_no_other_cpu(mode: str, there: str, expected: HostRefusal | None) -> None:
    """A live migration needs the same CPU, unless the guest was given a model by name; a start elsewhere does not."""
    wants = wants_of(VmFacts(cpu_mode=mode), replace(FACTS, cpu_model="EPYC"))
    kind = kind_of((), replace(FACTS, cpu_model=there))

    assert refused(wants, kind, LIVE_PAIR_RULES) is expected
    assert refused(wants, kind, PAIR_RULES) is None
