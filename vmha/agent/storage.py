"""Where the disks of VMs lie, decided from the table of mounts and from which directories were proven to be shared. Pure.

LOCAL is what lets a VM be made anew from its image (S24), and so it is said only of file systems that are known to lie on one
host's disk. What nobody can tell is UNSPECIFIED.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vmha.facts import DiskStorage, VmDisk

NETWORK: Final = frozenset(
    {
        "nfs", "nfs4", "ceph", "gfs", "gfs2", "ocfs2", "lustre", "beegfs", "gpfs", "afs", "cifs", "smb3", "9p", "virtiofs",
        "pvfs2", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.sshfs", "fuse.moosefs", "fuse.mfs", "fuse.lizardfs",
        "fuse.juicefs", "fuse.seaweedfs", "fuse.quobyte",
    }
)  # fmt: skip
"""Types of file systems that other hosts can mount as well."""
ONE_HOSTS: Final = frozenset(
    {
        "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs", "nilfs2", "vfat", "exfat", "ntfs3",
        "tmpfs", "ramfs", "overlay", "squashfs", "erofs",
    }
)  # fmt: skip
"""Types of file systems that lie on a disk or in the memory of one host."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: where, and its type as the kernel calls it."""

    point: str
    kind: str


@dataclass(frozen=True, slots=True)
class Shared:
    """A directory that the configuration calls shared.

    Attributes:
        path: As the configuration has it.
        resolved: Without symbolic links.
        storage_id: Which storage it is; empty while nothing proved that other hosts see it.
    """

    path: str
    resolved: str
    storage_id: str = ""


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """The mounts in the text of a /proc/PID/mountinfo, in its order. Lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if separator and len(fields) >= 5:
            found.append(Mount(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4]), kinds[0]))
    return tuple(found)


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount on which an absolute path lies: the longest that contains it, and of those at one point the last."""
    best = None
    for mount in mounts:
        if is_under(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def is_under(path: str, directory: str) -> bool:
    """Whether a path is a directory, or lies in it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def storage_id_of(path: str, mounts: Iterable[Mount], shared: Iterable[Shared]) -> str:
    """The shared storage on which a path without symbolic links lies; empty when it was not proven, or the path lies on none."""
    home = _home(path, mounts, shared)
    return "" if home is None else home.storage_id


def classify(path: str, resolved: str | None, mounts: Sequence[Mount], shared: Sequence[Shared]) -> tuple[DiskStorage, str]:
    """Where a file lies, and on which shared storage.

    Args:
        path: As the domain's XML has it. Another host looks for it under this name, so it is this one that must be in a shared
            directory for its storage to be named.
        resolved: Without symbolic links; None when that could not be found out.
    """
    mount = mount_of(resolved or path, mounts)
    if mount is None:
        return DiskStorage.UNSPECIFIED, ""
    home = _home(resolved or path, mounts, shared)
    if home is not None and home.storage_id:
        return DiskStorage.SHARED, home.storage_id if is_under(path, home.path) else ""
    if mount.kind in NETWORK:
        return DiskStorage.SHARED, ""
    if mount.kind == "devtmpfs":
        return DiskStorage.VOLUME, ""  # a device, whatever the XML calls it
    if home is not None or resolved is None or mount.kind not in ONE_HOSTS:
        return DiskStorage.UNSPECIFIED, ""
    return DiskStorage.LOCAL, ""


def _home(path: str, mounts: Iterable[Mount], shared: Iterable[Shared]) -> Shared | None:
    """The shared directory that a path lies in, and on the same mount: a disk that is mounted below it is not shared."""
    mounts = tuple(mounts)
    holding = [each for each in shared if is_under(path, each.resolved)]
    best = max(holding, key=lambda each: len(each.resolved), default=None)
    return best if best is not None and mount_of(path, mounts) == mount_of(best.resolved, mounts) else None


def paths_of(disks: Iterable[VmDisk], volumes: Mapping[str, str]) -> frozenset[str]:
    """The files whose place has to be found out; `volumes` has the paths of volumes of libvirt's pools, by target."""
    found = {volumes.get(disk.target, disk.source) for disk in disks if disk.storage is DiskStorage.UNSPECIFIED}
    return frozenset(path for path in found if path.startswith("/"))


def place(
    disks: Iterable[VmDisk],
    volumes: Mapping[str, str],
    resolved: Mapping[str, str],
    mounts: Sequence[Mount],
    shared: Sequence[Shared],
) -> tuple[VmDisk, ...]:
    """The disks with their storage filled in, as far as it is known."""
    return tuple(_placed(disk, volumes, resolved, mounts, shared) for disk in disks)


def _placed(
    disk: VmDisk, volumes: Mapping[str, str], resolved: Mapping[str, str], mounts: Sequence[Mount], shared: Sequence[Shared]
) -> VmDisk:
    path = volumes.get(disk.target, disk.source)
    if disk.storage is not DiskStorage.UNSPECIFIED or not path.startswith("/"):
        return disk
    storage, storage_id = classify(path, resolved.get(path), mounts, shared)
    return replace(disk, source=path, storage=storage, storage_id=storage_id)
