"""Storage of the simulated hosts: one directory that all of them mount, and each one's own disk. See `agent.storage_port`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Final

from vmha.agent.shared_files import Found, Unfit
from vmha.agent.shared_proof import Owner
from vmha.agent.storage import Mount

SHARED: Final = "/srv/shared"
"""Images of VMs with a shared root disk."""
IMAGES: Final = "/srv/shared/images"
"""The image library."""
LOCAL: Final = "/var/lib/libvirt/images"
TPM: Final = "/var/lib/libvirt/swtpm"


class SimExports:
    """What a storage that never fails exports to every host: directory -> stamps."""

    def __init__(self, *, tpm: bool) -> None:
        self.stamps: dict[str, dict[str, str]] = {path: {} for path in (SHARED, *((TPM,) if tpm else ()))}

    @property
    def directories(self) -> tuple[str, ...]:
        """What the agents' settings call shared."""
        return tuple(self.stamps)


class SimStorage:
    """See `StoragePort`."""

    def __init__(self, exports: SimExports) -> None:
        self._exports = exports

    def mounts(self) -> tuple[Mount, ...]:
        """See `StoragePort`."""
        return (Mount("/", "ext4"), *(Mount(path, "nfs4") for path in self._exports.stamps))

    async def resolve(self, paths: Collection[str]) -> Mapping[str, str]:
        """See `StoragePort`: there are no symbolic links."""
        return {path: path for path in sorted(paths)}

    async def read(self, directory: str, host_id: str, *, others: bool) -> Found:
        """See `StoragePort`."""
        stamps = self._stamps(directory)
        wanted = stamps if others else [host_id]
        return Found(
            hashlib.sha256(directory.encode()).hexdigest()[:32], {name: stamps[name] for name in wanted if name in stamps}
        )

    async def write(self, directory: str, host_id: str, stamp: str) -> None:
        """See `StoragePort`."""
        self._stamps(directory)[host_id] = stamp

    async def owner(self, directory: str) -> Owner | None:
        """See `StoragePort`: libvirt made it."""
        return Owner(0, 0o711)

    def _stamps(self, directory: str) -> dict[str, str]:
        if directory not in self._exports.stamps:
            raise Unfit("cannot be opened: No such file or directory")
        return self._exports.stamps[directory]
