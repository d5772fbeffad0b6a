"""Tests of vmha.agent.storage: where a disk lies, from its path, the mounts and what is proven to be shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmha.agent.storage import Mount, Shared, classify, mount_of, parse_mounts, paths_of, place, storage_id_of
from vmha.facts import DiskStorage, VmDisk

MOUNTS = (
    Mount("/", "ext4"),
    Mount("/dev", "devtmpfs"),
    Mount("/var/lib/libvirt/images", "xfs"),
    Mount("/srv/nfs", "nfs4"),
    Mount("/srv/nfs/scratch", "ext4"),
    Mount("/srv/cluster", "fuse.glusterfs"),
    Mount("/mnt/user", "fuse.something"),
    Mount("/net", "autofs"),
)
PROVEN = Shared("/srv/nfs", "/srv/nfs", "id1")
ON_A_DISK = Shared("/srv/lab", "/srv/lab", "id2")
UNPROVEN = Shared("/srv/called", "/srv/called")
SHARED = (PROVEN, ON_A_DISK, UNPROVEN)


@pytest.mark.parametrize(
    ("path", "storage", "storage_id"),
    [
        ("/srv/nfs/vm1.qcow2", DiskStorage.SHARED, "id1"),
        ("/srv/lab/vm1.qcow2", DiskStorage.SHARED, "id2"),
        ("/srv/cluster/vm1.qcow2", DiskStorage.SHARED, ""),
        ("/var/lib/libvirt/images/vm1.qcow2", DiskStorage.LOCAL, ""),
        ("/vm1.qcow2", DiskStorage.LOCAL, ""),
        ("/srv/nfs2/vm1.qcow2", DiskStorage.LOCAL, ""),
        ("/srv/nfs/scratch/vm1.qcow2", DiskStorage.LOCAL, ""),
        ("/dev/vg0/vm1", DiskStorage.VOLUME, ""),
        ("/srv/called/vm1.qcow2", DiskStorage.UNSPECIFIED, ""),
        ("/mnt/user/vm1.qcow2", DiskStorage.UNSPECIFIED, ""),
        ("/net/filer/vm1.qcow2", DiskStorage.UNSPECIFIED, ""),
    ],
)
def test_s24_the_longest_mount_and_the_proof_say_where_a_file_lies(path: str, storage: DiskStorage, storage_id: str) -> None:
    """Proven to be shared: which storage. A network's file system: shared. One host's: local. What may be either: not known."""
    assert classify(path, path, MOUNTS, SHARED) == (storage, storage_id)


@pytest.mark.parametrize(
    ("path", "resolved", "storage", "storage_id"),
    [
        ("/var/lib/libvirt/images/vm1", "/srv/nfs/vm1", DiskStorage.SHARED, ""),
        ("/srv/nfs/vm1", "/var/lib/vm1", DiskStorage.LOCAL, ""),
        ("/var/lib/libvirt/images/vm1", None, DiskStorage.UNSPECIFIED, ""),
        ("/srv/nfs/vm1", None, DiskStorage.SHARED, "id1"),
    ],
)
def test_a_symbolic_link_counts_by_where_it_leads(path: str, resolved: str | None, storage: DiskStorage, storage_id: str) -> None:
    """A link to shared storage makes no disk local; others may lack the link, so no storage is named. Not followed: not local."""
    assert classify(path, resolved, MOUNTS, SHARED) == (storage, storage_id)


def test_a_shared_directory_may_itself_be_a_link() -> None:
    """What the configuration calls shared leads elsewhere: files are found under the name that all hosts use."""
    shared = [Shared("/srv/images", "/srv/nfs/images", "id3")]

    assert classify("/srv/images/vm1", "/srv/nfs/images/vm1", MOUNTS, shared) == (DiskStorage.SHARED, "id3")
    assert storage_id_of("/srv/nfs/images/tpm", MOUNTS, shared) == "id3"
    assert storage_id_of("/srv/nfs/scratch/tpm", MOUNTS, shared) == ""


def test_nothing_is_local_while_nothing_is_known_of_mounts() -> None:
    """Without a table of mounts every file's place is not known."""
    assert classify("/vm1", "/vm1", (), SHARED) == (DiskStorage.UNSPECIFIED, "")


def test_disks_are_filled_in_where_nothing_else_says_it() -> None:
    """Files and volumes of libvirt's pools get their place; network disks and block devices stay what they are."""
    disks = (
        VmDisk(target="vda", source="/srv/nfs/vm1", root=True),
        VmDisk(target="vdb", source="pool/vm1", storage=DiskStorage.VOLUME),
        VmDisk(target="vdc", source="vm1-data"),
        VmDisk(target="vdd", source="vm1-gone"),
    )
    volumes = {"vdc": "/var/lib/libvirt/images/vm1-data"}
    resolved = {path: path for path in paths_of(disks, volumes)}

    placed = place(disks, volumes, resolved, MOUNTS, SHARED)

    assert set(resolved) == {"/srv/nfs/vm1", "/var/lib/libvirt/images/vm1-data"}
    assert placed == (
        VmDisk(target="vda", source="/srv/nfs/vm1", root=True, storage=DiskStorage.SHARED, storage_id="id1"),
        disks[1],
        VmDisk(target="vdc", source="/var/lib/libvirt/images/vm1-data", storage=DiskStorage.LOCAL),
        disks[3],
    )


def test_the_kernels_table_is_read() -> None:
    """Mount points with spaces, optional fields, a mount over another: the last one counts. Odd lines are passed over."""
    text = (
        "21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        "40 21 0:35 / /srv/my\\040images rw - nfs4 10.0.0.1:/images rw,hard\n"
        "41 21 0:36 / /srv/over rw shared:3 master:1 - ext4 /dev/vdb rw\n"
        "42 21 0:37 / /srv/over rw - nfs filer:/x rw\n"
        "no mount at all\n"
    )
    mounts = parse_mounts(text)

    assert mount_of("/srv/my images/vm1", mounts) == Mount("/srv/my images", "nfs4")
    assert mount_of("/srv/over/vm1", mounts) == Mount("/srv/over", "nfs")
    assert mount_of("/srv/overboard", mounts) == Mount("/", "ext4")


def test_this_machines_own_table_is_read() -> None:
    """The real one has a root."""
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())

    assert mount_of("/nothing/there", mounts) is not None
