"""Core: rules on where VMs' disks, images and TPM state lie (S13, S21, S24, S25)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from vmha.facts import DiskStorage, HostFacts, VmDisk
from vmha.manager.findings import Case, Finding, Rule, listed, refuses, warns
from vmha.store.records import VmRecord

BLOCK_STORAGE: Final = "block-storage"
IMAGE_LIBRARY: Final = "image-library"
OWN_WAY: Final = 'or switch the VM\'s own protection off in its metadata (ha="off").'


def _local_disks(case: Case) -> Iterator[Finding]:
    """S13, S24: a disk that dies with its host is the root disk, and there is an image to make it anew from."""
    for vm in case.protected:
        for disk in _disks_on(vm, DiskStorage.LOCAL):
            where = f"{vm.name}: {disk.target} ({disk.source}) lies on {vm.owner_host_id}'s own disk"
            if why := _no_rebuild(case, vm, disk):
                remedy = f"Move the disk to shared storage or a volume, {why[1]}{OWN_WAY}"
                yield refuses("SHARED_STORAGE", f"vms/{vm.vm_id}", f"{where}, and {why[0]}.", remedy)
            else:
                text = f"{where}: it is made anew from image {vm.facts.image}, and what was written to it is lost."
                remedy = "Keep what must outlive a host on a volume or on shared storage."
                yield warns("ROOT_DISK_NEW", f"vms/{vm.vm_id}", text, remedy)


def _no_rebuild(case: Case, vm: VmRecord, disk: VmDisk) -> tuple[str, str] | None:
    """Why a local disk cannot be made anew, and what else would help."""
    if not disk.root:
        return "only a root disk can be made anew", ""
    if not vm.facts.image:
        return "its metadata names no image to make it anew from", "name the image in the VM's metadata, "
    if not case.config.image_directory:
        return "the cluster has no image_directory to make it anew from", "set image_directory, "
    return None


def _disks_on(vm: VmRecord, storage: DiskStorage) -> list[VmDisk]:
    return [disk for disk in vm.facts.disks if disk.storage is storage]


def _shared_disks(case: Case) -> Iterator[Finding]:
    """S13: a second host has the storage of a file that is said to be shared. Mounts come and go: it warns."""
    reported, all_known = _storages(case), case.all_known
    for vm in case.protected:
        for disk in _disks_on(vm, DiskStorage.SHARED):
            if not disk.storage_id:
                why = "nobody proved that other hosts see the same directory"
            elif all_known and not reported.get(disk.storage_id, set()) - {vm.owner_host_id}:
                why = "no other host reports this storage"
            else:
                continue
            text = f"{vm.name}: {disk.target} ({disk.source}) should lie on shared storage, and {why}."
            remedy = "Mount it on every hypervisor, under the same path, and name it in the agents' settings."
            yield warns("STORAGE_NOT_SHARED", f"vms/{vm.vm_id}", text, remedy)


def _storages(case: Case) -> dict[str, set[str]]:
    """storage_id -> the hosts that report it."""
    found: dict[str, set[str]] = {}
    for host_id, facts in case.known.items():
        for shared in facts.shared_directories:
            if shared.storage_id:
                found.setdefault(shared.storage_id, set()).add(host_id)
    return found


def _directories(case: Case) -> Iterator[Finding]:
    """What agents found wrong with directories that are configured as shared."""
    sight: dict[str, dict[str, list[str]]] = {}
    for host_id, facts in case.known.items():
        for shared in facts.shared_directories:
            sight.setdefault(shared.path, {}).setdefault(shared.storage_id, []).append(host_id)
            if shared.problem:
                remedy = "Mend the mount, its owner or its rights on that host."
                yield warns("SHARED_DIRECTORY", f"hosts/{host_id}", f"{host_id}: {shared.path}: {shared.problem}.", remedy)
    for path, groups in sorted(sight.items()):
        named = [listed(hosts) for storage_id, hosts in sorted(groups.items()) if storage_id]
        if len(named) > 1:
            text = f"{path} is not the same storage everywhere: {'; '.join(f'one on {hosts}' for hosts in named)}."
            yield warns("SHARED_DIRECTORY", case.subject, text, "Mount the same storage under this path on every hypervisor.")
        absent = sorted(case.known.keys() - {host_id for hosts in groups.values() for host_id in hosts})
        if absent:
            text = f"{path} is shared by some hosts, and not named by {listed(absent)}."
            yield warns("SHARED_DIRECTORY", case.subject, text, "Mount it there, and name it in the agent's settings.")


def _image_library(case: Case) -> Iterator[Finding]:
    """S13: where VMs would be made anew, images do not hang on one host."""
    rebuilt = [
        vm.name
        for vm in case.protected
        if any(disk.root and not _no_rebuild(case, vm, disk) for disk in _disks_on(vm, DiskStorage.LOCAL))
    ]
    if not rebuilt:
        return
    hosts, directory = case.with_role(IMAGE_LIBRARY), case.config.image_directory
    need = f"and the root disk of {listed(rebuilt)} would be made anew from an image"
    if len(hosts) == 1:
        text = f"Only {hosts[0]} has the role image-library, {need}: it must be assigned to at least two hosts."
        yield refuses("IMAGE_LIBRARY", case.subject, text, "Give the role to a second host.")
    elif not hosts:
        text = f"No host has the role image-library, {need}: {directory} is taken to be served from outside the cluster."
        yield warns("IMAGE_LIBRARY", case.subject, text, "Give the role to two hosts, if hosts of this cluster serve it.")
    seen = {host_id: facts.storage_id(f"{directory.rstrip('/')}/") for host_id, facts in case.known.items()}
    remedy = "Mount the library's storage on every hypervisor, and name it in the agents' settings."
    if case.all_known and all(seen.values()) and len(set(seen.values())) == len(seen) > 1:
        text = f"{directory} is another storage on each host, {need}: the image library must use shared storage."
        yield refuses("IMAGE_LIBRARY", case.subject, text, remedy)
    elif missing := sorted(host_id for host_id, storage_id in seen.items() if not storage_id):
        text = f"It is not proven that {directory} is shared storage on {listed(missing)}, {need}."
        yield warns("IMAGE_LIBRARY", case.subject, text, remedy)


def _block_storage(case: Case) -> Iterator[Finding]:
    """S13, S25: volumes do not hang on one host."""
    here = _names_of_hosts(case)
    volumes = ((vm, _disks_on(vm, DiskStorage.VOLUME)) for vm in case.protected)
    users = [vm.name for vm, disks in volumes if any(not disk.servers or not here.isdisjoint(disk.servers) for disk in disks)]
    hosts = case.with_role(BLOCK_STORAGE)
    if not users or len(hosts) > 1:
        return
    if hosts:
        text = (
            f"Only {hosts[0]} has the role block-storage, and volumes are used by {listed(users)}: with it all volumes are lost."
        )
        remedy = "Give the role to a second host; take it from that one, if volumes are served from outside the cluster."
        yield refuses("BLOCK_STORAGE_ROLE", case.subject, f"{text} The role must be assigned to at least two hosts.", remedy)
    else:
        text = f"No host has the role block-storage: volumes used by {listed(users)} are taken to be served from outside."
        yield warns("BLOCK_STORAGE_ROLE", case.subject, text, "Give the role to the hosts that serve volumes, if they are here.")


def _names_of_hosts(case: Case) -> set[str]:
    """What a volume calls its server where that is a host of this cluster; one of which that is not known may be."""
    return {
        name for host_id, host in case.snapshot.hosts.items() for name in (host_id, host.config.agent_target.rpartition(":")[0])
    }


def _tpm_state(case: Case) -> Iterator[Finding]:
    """S13, S21: a second host has the state of a VM's emulated TPM."""
    known, all_known = case.known, case.all_known
    guests = [vm for vm in case.protected if vm.facts.has_vtpm and vm.owner_host_id in known]
    remedy = f"Put the TPM state directory on storage that all hypervisors mount, owned by the TPM emulator's user, {OWN_WAY}"
    sharing = Counter(facts.tpm_storage_id for facts in known.values())
    used: set[str] = set()
    for vm in guests:
        here = known[vm.owner_host_id].tpm_storage_id
        if not here:
            text = f"{vm.name} has a vTPM, and {_tpm_trouble(vm.owner_host_id, known[vm.owner_host_id])}."
        elif all_known and sharing[here] < 2:
            text = f"{vm.name} has a vTPM, and no host but {vm.owner_host_id} has the storage on which its state lies."
        else:
            used.add(here)
            continue
        yield refuses("VTPM_STATE", f"vms/{vm.vm_id}", text, remedy)
    apart = sorted(host_id for host_id, facts in known.items() if used - {facts.tpm_storage_id})
    for host_id in apart:
        text = f"{_tpm_trouble(host_id, known[host_id])}: it is no target for all VMs with a vTPM."
        yield warns("VTPM_STATE", f"hosts/{host_id}", text, remedy)


def _tpm_trouble(host_id: str, facts: HostFacts) -> str:
    if facts.tpm_storage_id:
        return f"{host_id} keeps TPM state on another storage than other hosts"
    problems = [f"{shared.path}: {shared.problem}" for shared in facts.shared_directories if "tpm" in shared.path]
    return f"{host_id} keeps TPM state on its own disk" + (f" ({listed(problems)})" if problems else "")


RULES: Final[tuple[Rule, ...]] = (_local_disks, _shared_disks, _directories, _image_library, _block_storage, _tpm_state)
TYPES: Final = {
    "SHARED_STORAGE": "no protected VM loses its disks with its host",
    "ROOT_DISK_NEW": "no protected VM comes back with an empty root disk",
    "STORAGE_NOT_SHARED": "a second host has the storage of each shared disk",
    "SHARED_DIRECTORY": "directories that are called shared are",
    "IMAGE_LIBRARY": "images do not hang on one host, where VMs are made anew",
    "BLOCK_STORAGE_ROLE": "volumes do not hang on one host",
    "VTPM_STATE": "a second host has the state of each vTPM",
}
