"""Which hosts can run a VM at all, whatever room they have: rules about a VM's wishes and a kind of host (S14, S16, S21).

Hosts that are alike in all that these rules look at are one `Kind`; VMs that want the same are one `Wants`. So a rule is asked
once for each pair of them, however many hosts and VMs there are. What is not known refuses nothing; a rule that must, says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vmha.evac.reasons import HostRefusal, VmReason
from vmha.facts import DiskStorage, HostFacts, SharedDirectory, VmFacts


class Kind(NamedTuple):
    """What the rules look at of a host. `complete`: its agent is one that reports machines, huge pages and shared storage."""

    aggregates: tuple[str, ...]
    operating_system: str
    cpu_model: str
    machines: tuple[str, ...]
    cpu_models: tuple[str, ...]
    page_sizes_kib: tuple[int, ...]
    shared_directories: tuple[SharedDirectory, ...]
    tpm_storage_id: str
    complete: bool


class Wants(NamedTuple):
    """What the rules look at of a VM.

    Attributes:
        shared: (directory, storage_id) of its shared disks.
        source_had_cpu_model: Its old host's libvirt called the CPU model that it asks for usable.
    """

    aggregates: tuple[str, ...]
    machine: str
    cpu_mode: str
    cpu_model: str
    hugepage_kib: int
    has_vtpm: bool
    shared: tuple[tuple[str, str], ...]
    source_operating_system: str
    source_cpu_model: str
    source_had_cpu_model: bool
    source_tpm_storage_id: str


def kind_of(aggregates: tuple[str, ...], facts: HostFacts) -> Kind:
    """The kind of a host."""
    return Kind(
        aggregates,
        facts.operating_system,
        facts.cpu_model,
        facts.machines,
        facts.cpu_models,
        tuple(sorted(facts.hugepages)) if facts.hugepages else (),
        facts.shared_directories,
        facts.tpm_storage_id,
        bool(facts.machines),
    )


def wants_of(facts: VmFacts, source: HostFacts | None) -> Wants:
    """The wishes of a VM that leaves a host."""
    shared = {
        (_directory(disk.source, disk.storage_id, source), disk.storage_id)
        for disk in facts.disks
        if disk.storage is DiskStorage.SHARED and disk.storage_id
    }
    return Wants(
        facts.aggregates,
        facts.machine,
        facts.cpu_mode,
        facts.cpu_model,
        facts.hugepage_kib,
        facts.has_vtpm,
        tuple(sorted(shared)),
        source.operating_system if source else "",
        source.cpu_model if source else "",
        facts.cpu_model in source.cpu_models if source else False,
        source.tpm_storage_id if source else "",
    )


def _directory(path: str, storage_id: str, source: HostFacts | None) -> str:
    """The shared directory of a disk as its old host calls it; empty when that is not known."""
    named = [shared.path for shared in source.shared_directories if shared.storage_id == storage_id] if source else []
    under = [directory for directory in named if path.startswith(directory.rstrip("/") + "/")]
    return max(under, key=len, default="")


PairRule = Callable[[Wants, Kind], HostRefusal | None]


def aggregate(vm: Wants, host: Kind) -> HostRefusal | None:
    """S16: its host has to be in every aggregate that it names."""
    return None if set(vm.aggregates) <= set(host.aggregates) else HostRefusal.AGGREGATE_DIFFERS


def operating_system(vm: Wants, host: Kind) -> HostRefusal | None:
    """S14: nothing is placed across versions of the hosts' operating system."""
    both = vm.source_operating_system and host.operating_system
    return HostRefusal.OS_VERSION_DIFFERS if both and vm.source_operating_system != host.operating_system else None


def shared_storage(vm: Wants, host: Kind) -> HostRefusal | None:
    """S13: what its disks lie on has to be there under the same path, proven to be the same storage."""
    if not vm.shared or not (host.complete or host.shared_directories):
        return None
    there = {(shared.path, shared.storage_id) for shared in host.shared_directories}
    anywhere = {("", shared.storage_id) for shared in host.shared_directories}
    return None if set(vm.shared) <= there | anywhere else HostRefusal.STORAGE_NOT_SHARED


def tpm_state(vm: Wants, host: Kind) -> HostRefusal | None:
    """S21: the state of its TPM has to be there. A host of which that is not known is refused: the TPM would start empty."""
    if not vm.has_vtpm or (vm.source_tpm_storage_id and vm.source_tpm_storage_id == host.tpm_storage_id):
        return None
    return HostRefusal.VTPM_STATE_ELSEWHERE


def cpu_model(vm: Wants, host: Kind) -> HostRefusal | None:
    """A VM that asks for a CPU model by name needs a hypervisor that can give it.

    libvirt's list of usable models is shorter than what starts: it counts only where the old host's had the model.
    """
    named = vm.cpu_mode == "custom" and vm.source_had_cpu_model and host.cpu_models
    return HostRefusal.CPU_INCOMPATIBLE if named and vm.cpu_model not in host.cpu_models else None


def machine(vm: Wants, host: Kind) -> HostRefusal | None:
    """Its machine type has to be one that the hypervisor there has."""
    return HostRefusal.MACHINE_UNSUPPORTED if vm.machine and host.machines and vm.machine not in host.machines else None


def hugepages(vm: Wants, host: Kind) -> HostRefusal | None:
    """A VM on huge pages needs a host that has pages of that size; whether enough are free is a question of room."""
    if not vm.hugepage_kib or not (host.complete or host.page_sizes_kib):
        return None
    there = bool(host.page_sizes_kib) if vm.hugepage_kib < 0 else vm.hugepage_kib in host.page_sizes_kib
    return None if there else HostRefusal.HUGEPAGES_MISSING


def live_cpu(vm: Wants, host: Kind) -> HostRefusal | None:
    """S27: a guest that runs sees no other CPU, unless it was given a model by name."""
    known = vm.cpu_mode != "custom" and vm.source_cpu_model and host.cpu_model
    return HostRefusal.CPU_INCOMPATIBLE if known and vm.source_cpu_model != host.cpu_model else None


PAIR_RULES: tuple[PairRule, ...] = (aggregate, operating_system, shared_storage, tpm_state, cpu_model, machine, hugepages)
"""Of a start elsewhere; the order in which an operator would ask."""
LIVE_PAIR_RULES: tuple[PairRule, ...] = (*PAIR_RULES, live_cpu)
"""Of a live migration."""
REASON_OF = {
    HostRefusal.AGGREGATE_DIFFERS: VmReason.AGGREGATE_EMPTY,
    HostRefusal.OS_VERSION_DIFFERS: VmReason.OS_VERSION_DIFFERS,
    HostRefusal.STORAGE_NOT_SHARED: VmReason.STORAGE_NOT_SHARED,
    HostRefusal.VTPM_STATE_ELSEWHERE: VmReason.VTPM_STATE_ELSEWHERE,
    HostRefusal.CPU_INCOMPATIBLE: VmReason.CPU_INCOMPATIBLE,
    HostRefusal.MACHINE_UNSUPPORTED: VmReason.MACHINE_UNSUPPORTED,
    HostRefusal.HUGEPAGES_MISSING: VmReason.HUGEPAGES_MISSING,
}
"""What a VM waits for when a rule leaves it no host."""


def refused(vm: Wants, host: Kind, rules: tuple[PairRule, ...]) -> HostRefusal | None:
    """The first rule's word against a host, None when it can run the VM."""
    for rule in rules:
        why = rule(vm, host)
        if why is not None:
            return why
    return None
