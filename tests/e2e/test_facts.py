"""What agents find out about VMs and hosts, on real libvirt, QEMU and files."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from lab.config import TPM_STATE_DIRECTORY
from tests.e2e.cluster import Cluster
from vmha.v1 import host_pb2, vm_pb2

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
MakeCluster = Callable[..., Cluster]
DIMM = "<memory model='dimm'><target><size unit='MiB'>64</size><node>0</node></target></memory>"


def test_s22_memory_and_vcpus_that_were_added_live_are_there_after_an_evacuation(make_cluster: MakeCluster) -> None:
    """A dimm and a vCPU that only the running guest has: the guest that is started elsewhere has them too, as its QEMU says."""
    cluster = make_cluster(guests={"vm2": "host2"})
    guest = cluster.lab.mkvm("vm1", grows=True)
    host = cluster.lab.host("host1")
    host.start_guest("vm1")
    dimm = cluster.lab.shared / "dimm.xml"
    dimm.write_text(DIMM)
    host.virsh("attach-device", "vm1", str(dimm), "--live")
    host.virsh("setvcpus", "vm1", "2", "--live")
    assert "dimm" not in host.virsh("dumpxml", "vm1", "--inactive")

    def is_known() -> bool:
        vm = cluster.stack.vms().get("vm1", vm_pb2.Vm())
        return (vm.facts.vcpus, vm.facts.memory_mib) == (2, 80)

    cluster.stack.wait(is_known, 30, "vm1 is known with what was added")
    cut = cluster.kill("host1")
    cluster.wait_beats_after(["vm1"], cut)

    target = cluster.lab.host(cluster.owners()["vm1"])
    domain = ElementTree.fromstring(target.virsh("dumpxml", "vm1"))
    assert domain.findtext("uuid") == guest.uuid
    assert [size.text for size in domain.iterfind("devices/memory/target/size")] == ["65536"]
    qemu = target.virsh("qemu-monitor-command", "vm1", "--hmp", "info memory_size_summary")
    assert f"plugged memory: {64 << 20}" in qemu
    assert target.virsh("qemu-monitor-command", "vm1", "--hmp", "info cpus").count("CPU #") == 2


def test_s13_s24_hosts_prove_that_they_share_the_folder_of_images(make_cluster: MakeCluster) -> None:
    """Every host reports the same storage id for it, and a guest's disk lies on that storage, not on its host's disk."""
    cluster = make_cluster(guests={"vm1": "host1"})
    shared = str(cluster.lab.shared)

    def ids() -> set[str]:
        hosts = [cluster.stack.host(host_id) for host_id in cluster.stack.host_ids]
        return {_storage_id(host, shared) for host in hosts}

    def tpm_ids() -> set[str]:
        hosts = [cluster.stack.host(host_id) for host_id in cluster.stack.host_ids]
        return {_storage_id(host, TPM_STATE_DIRECTORY) for host in hosts}

    cluster.stack.wait(lambda: len(ids()) == 1 and "" not in ids(), 30, "all hosts name one storage")
    cluster.stack.wait(lambda: _root(cluster).storage_id in ids(), 30, "the disk of vm1 lies on it")

    assert _root(cluster).storage == vm_pb2.DISK_STORAGE_SHARED
    facts = cluster.stack.host("host1").facts
    assert "pc" in facts.machines
    assert any(name.startswith("pc-q35-") for name in facts.machines)
    cluster.stack.wait(
        lambda: {cluster.stack.host(host_id).facts.tpm_storage_id for host_id in cluster.stack.host_ids} == tpm_ids() - {""},
        30,
        "the state of TPMs lies on one storage, too",
    )


def _storage_id(host: host_pb2.Host, path: str) -> str:
    return next((shared.storage_id for shared in host.facts.shared_directories if shared.path == path), "")


def _root(cluster: Cluster) -> vm_pb2.VmDisk:
    return next(disk for disk in cluster.stack.vms()["vm1"].facts.disks if disk.root)
