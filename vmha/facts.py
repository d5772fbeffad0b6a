"""What agents find out about hosts and VMs, and placement goes by. Frozen; sizes are MiB unless the name says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class DiskStorage(StrEnum):
    """Where a disk's content lies."""

    UNSPECIFIED = "UNSPECIFIED"
    VOLUME = "VOLUME"
    SHARED = "SHARED"
    LOCAL = "LOCAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDirectory:
    """A directory that is said to be shared; hosts that report the same `storage_id` share it. Empty: see `problem`."""

    path: str
    storage_id: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What an agent found on its host.

    Attributes:
        machines: Machine types that its hypervisor can run; empty when that is not known.
        cpu_models: CPU models that its hypervisor can give a guest; empty when that is not known.
        hugepages: Pages that there are, by their size in KiB.
        tpm_storage_id: The shared storage on which the state of emulated TPMs lies; empty: its own disk.
    """

    vcpus: int
    memory_mib: int
    operating_system: str = ""
    libvirt_version: str = ""
    hypervisor_version: str = ""
    cpu_model: str = ""
    agent_version: str = ""
    storage_pools: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    cpu_models: tuple[str, ...] = ()
    hugepages: Mapping[int, int] = field(default_factory=dict)
    shared_directories: tuple[SharedDirectory, ...] = ()
    tpm_storage_id: str = ""

    def storage_id(self, path: str) -> str:
        """The shared storage on which a path lies; empty when it lies on none that was proven to be shared."""
        under = [s for s in self.shared_directories if s.storage_id and path.startswith(s.path.rstrip("/") + "/")]
        return max(under, key=lambda shared: len(shared.path)).storage_id if under else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDisk:
    """One disk of a VM.

    Attributes:
        target: What the guest calls it, as vda.
        source: Path, device, or name of the volume.
        storage_id: The shared storage it lies on; empty when nobody proved that it is shared.
        servers: Who serves a volume, by name or address, any of them is enough; empty when that is not known.
        root: The guest boots from it.
    """

    target: str
    storage: DiskStorage = DiskStorage.UNSPECIFIED
    source: str = ""
    storage_id: str = ""
    servers: tuple[str, ...] = ()
    root: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VmFacts:
    """What placement needs to know of a VM; read from its XML by `vmha.domain_xml`.

    Attributes:
        groups: Affinity groups that its metadata names, beside those that name it.
        image: The image that it was made from; empty when its metadata names none.
        hugepage_kib: Size of the huge pages that back its memory; 0 when none do, -1 for the host's default size.
    """

    vcpus: int = 1
    memory_mib: int = 0
    ha_enabled: bool = True
    priority: int = 0
    aggregates: tuple[str, ...] = ()
    machine: str = ""
    has_vtpm: bool = False
    has_passthrough: bool = False
    resize_unconfirmed: bool = False
    groups: tuple[str, ...] = ()
    image: str = ""
    disks: tuple[VmDisk, ...] = ()
    cpu_mode: str = ""
    cpu_model: str = ""
    hugepage_kib: int = 0

    @property
    def root_disk(self) -> VmDisk | None:
        """The disk that it boots from."""
        return next((disk for disk in self.disks if disk.root), None)
