"""What may not or need not be moved, or must wait wherever it goes: one small function a rule, each with a reason (S20-S26).

A rule looks at one VM and at what it left behind (`Surroundings`). `None`: it has nothing against moving the VM. The first
verdict counts; the order of RULES is the order in which an operator would ask. Rules about a VM and a target: `pair_rules`.
What nobody found out refuses nothing, except where going on could lose what a guest wrote; such rules say so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vmha.evac.reasons import VmReason
from vmha.facts import DiskStorage, HostFacts
from vmha.model import HostConfig, HostState, VmOutcome, VmState
from vmha.store.records import ClusterSnapshot, HostRecord, VmRecord

SERVING = frozenset({HostState.HEALTHY, HostState.IN_MAINTENANCE})
"""States in which a host serves its volumes, as far as anybody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What rules about a VM alone go by, beside the VM.

    Attributes:
        source: What was found out about the host that it leaves; None when nothing was.
        image_directory: Where images lie on every host; empty: nothing can be made anew.
        serving: Names and addresses of the cluster's hosts -> those of them that answer to it and are up.
    """

    source: HostFacts | None = None
    image_directory: str = ""
    serving: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a VM is not moved; with the outcome PENDING: not now."""

    outcome: VmOutcome
    reason: VmReason
    message: str


Rule = Callable[[VmRecord, Surroundings], Verdict | None]


def surroundings(snapshot: ClusterSnapshot, host_id: str) -> Surroundings:
    """What the rules need of a cluster when VMs leave a host."""
    source = snapshot.hosts.get(host_id)
    return Surroundings(
        source=source.facts if source else None,
        image_directory=snapshot.cluster.config.image_directory,
        serving=_serving(snapshot.hosts.values()),
    )


def _serving(hosts: Iterable[HostRecord]) -> dict[str, tuple[str, ...]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for host in sorted(hosts, key=lambda host: host.host_id):
        for name in {host.host_id, *_addresses(host.config)}:
            found[name] += [host.host_id] if host.state in SERVING else []
    return {name: tuple(host_ids) for name, host_ids in found.items()}


def _addresses(config: HostConfig) -> set[str]:
    authority = config.libvirt_uri.partition("://")[2].partition("/")[0].rpartition("@")[2]
    return {_host_part(text) for text in (config.probe_target, config.agent_target, authority)} - {""}


def _host_part(target: str) -> str:
    if target.startswith("["):
        return target[1:].partition("]")[0]
    return target.partition(":")[0] if target.count(":") < 2 else target


def _no(outcome: VmOutcome, reason: VmReason, message: str) -> Verdict:
    return Verdict(outcome=outcome, reason=reason, message=message)


def ha_is_on(vm: VmRecord, _: Surroundings) -> Verdict | None:
    """The VM's own XML can switch its protection off."""
    return None if vm.facts.ha_enabled else _no(VmOutcome.SKIPPED, VmReason.HA_OFF, "restart policy of the VM is off")


def is_not_paused(vm: VmRecord, _: Surroundings) -> Verdict | None:
    """S20: what its user paused or suspended is not evacuated: a start elsewhere would run it."""
    if vm.desired_state is not VmState.PAUSED:
        return None
    return _no(VmOutcome.SKIPPED, VmReason.VM_PAUSED, "its user had paused it")


def should_run(vm: VmRecord, _: Surroundings) -> Verdict | None:
    """S20: what was shut off on purpose is not started. A VM whose host was shutting down still wants to run."""
    never_seen = vm.desired_state in {VmState.UNSPECIFIED, VmState.ABSENT}
    if vm.desired_state is VmState.RUNNING or (never_seen and vm.state is VmState.RUNNING):
        return None
    return _no(VmOutcome.SKIPPED, VmReason.VM_SHUTOFF, "it was shut off on purpose")


def is_defined(vm: VmRecord, _: Surroundings) -> Verdict | None:
    """Without the domain's XML nothing can be started."""
    return None if vm.domain_xml else _no(VmOutcome.FAILED, VmReason.NO_DEFINITION, "the inventory holds no domain XML of it")


def resize_is_confirmed(vm: VmRecord, _: Surroundings) -> Verdict | None:
    """S23: which of its two sizes is the right one, only its user can say."""
    if not vm.facts.resize_unconfirmed:
        return None
    return _no(VmOutcome.FAILED, VmReason.RESIZE_UNCONFIRMED, "a resize of it was not confirmed yet")


def has_no_device_of_its_host(vm: VmRecord, _: Surroundings) -> Verdict | None:
    """S26: a passed-through device stays in its host."""
    if not vm.facts.has_passthrough:
        return None
    return _no(VmOutcome.FAILED, VmReason.PASSTHROUGH_DEVICE, "it has a passed-through device, which stays in its host")


def tpm_state_is_shared(vm: VmRecord, around: Surroundings) -> Verdict | None:
    """S21: without its state a TPM starts empty, and what it sealed is lost. So a host of which nothing is known shares none."""
    if not vm.facts.has_vtpm or (around.source and around.source.tpm_storage_id):
        return None
    message = "the state of its TPM is on no storage that its host was proven to share"
    return _no(VmOutcome.FAILED, VmReason.VTPM_STATE_NOT_SHARED, message)


def data_disks_are_not_local(vm: VmRecord, _: Surroundings) -> Verdict | None:
    """S24: what lay on another local disk than the root's cannot be made anew, and a guest without it is a broken one."""
    lost = [disk.target for disk in vm.facts.disks if disk.storage is DiskStorage.LOCAL and not disk.root]
    if not lost:
        return None
    return _no(VmOutcome.FAILED, VmReason.LOCAL_DATA_DISK, f"the content of {', '.join(lost)} was on its old host's own disk")


def root_disk_can_be_had(vm: VmRecord, around: Surroundings) -> Verdict | None:
    """S24: a local root disk is made anew from the VM's image, where there is one and a place where images lie."""
    root = vm.facts.root_disk
    if root is None or root.storage is not DiskStorage.LOCAL or rebuilt_from(vm, around):
        return None
    lacks = "its metadata names no image" if not vm.facts.image else "the cluster has no image_directory"
    message = f"its root disk {root.target} was on its old host's own disk, and {lacks}"
    return _no(VmOutcome.FAILED, VmReason.LOCAL_DISK_NO_IMAGE, message)


def rebuilt_from(vm: VmRecord, around: Surroundings) -> str:
    """S24: the image that a lost root disk is made anew from; empty when it is not lost, or there is none."""
    root = vm.facts.root_disk
    lost = root is not None and root.storage is DiskStorage.LOCAL
    return vm.facts.image if lost and around.image_directory else ""


def volumes_are_served(vm: VmRecord, around: Surroundings) -> Verdict | None:
    """S25: a volume whose servers are all hosts of this cluster, none of them up, comes back with the first of them.

    A server that is no host of the cluster may be up: nobody knows, so it waits for nothing then.
    """
    for disk in vm.facts.disks:
        known = disk.storage is DiskStorage.VOLUME and disk.servers and all(name in around.serving for name in disk.servers)
        if known and not any(around.serving[name] for name in disk.servers):
            message = f"waits for its volume {disk.target}: none of {', '.join(sorted(disk.servers))}, which serve it, is up"
            return _no(VmOutcome.PENDING, VmReason.VOLUME_UNAVAILABLE, message)
    return None


def no_disk_is_local(vm: VmRecord, _: Surroundings) -> Verdict | None:
    """S27: a live migration moves memory, no disks."""
    local = [disk.target for disk in vm.facts.disks if disk.storage is DiskStorage.LOCAL]
    if not local:
        return None
    return _no(VmOutcome.FAILED, VmReason.LOCAL_DISK, f"{', '.join(local)} is on its host's own disk: it cannot migrate")


RULES: tuple[Rule, ...] = (
    ha_is_on,
    is_not_paused,
    should_run,
    is_defined,
    resize_is_confirmed,
    has_no_device_of_its_host,
    tpm_state_is_shared,
    data_disks_are_not_local,
    root_disk_can_be_had,
    volumes_are_served,
)
"""Of an evacuation."""
LIVE_RULES: tuple[Rule, ...] = (has_no_device_of_its_host, no_disk_is_local, tpm_state_is_shared, resize_is_confirmed)
"""Of a live migration. Restart policy and pauses do not matter: nothing is started anew."""
REASON_OF: Mapping[Rule, VmReason] = {
    ha_is_on: VmReason.HA_OFF,
    is_not_paused: VmReason.VM_PAUSED,
    should_run: VmReason.VM_SHUTOFF,
    is_defined: VmReason.NO_DEFINITION,
    resize_is_confirmed: VmReason.RESIZE_UNCONFIRMED,
    has_no_device_of_its_host: VmReason.PASSTHROUGH_DEVICE,
    tpm_state_is_shared: VmReason.VTPM_STATE_NOT_SHARED,
    data_disks_are_not_local: VmReason.LOCAL_DATA_DISK,
    root_disk_can_be_had: VmReason.LOCAL_DISK_NO_IMAGE,
    volumes_are_served: VmReason.VOLUME_UNAVAILABLE,
    no_disk_is_local: VmReason.LOCAL_DISK,
}
"""What each rule gives as its reason when it is against."""


def judge(vm: VmRecord, around: Surroundings | None = None, rules: tuple[Rule, ...] = RULES) -> Verdict | None:
    """The first rule's word against moving the VM, None when all let it go."""
    return next((verdict for _, verdict in tried(vm, around or Surroundings(), rules) if verdict is not None), None)


def tried(vm: VmRecord, around: Surroundings, rules: tuple[Rule, ...] = RULES) -> Iterator[tuple[VmReason, Verdict | None]]:
    """Each rule's reason with what it says of the VM, up to the first that is against."""
    for rule in rules:
        verdict = rule(vm, around)
        yield REASON_OF[rule], verdict
        if verdict is not None:
            return
