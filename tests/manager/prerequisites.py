"""Clusters, hosts and VMs as enablement's rules look at them: one that nothing is wrong with, and changes to it."""

from __future__ import annotations

import uuid
from typing import Any

from vmha import __version__
from vmha.facts import DiskStorage, HostFacts, VmDisk, VmFacts
from vmha.manager.enablement import check
from vmha.manager.findings import Running
from vmha.model import ClusterConfig, FenceConfig, HostConfig, VmState
from vmha.store.records import ClusterRecord, ClusterSnapshot, HostRecord, VmRecord

FACTS = HostFacts(
    vcpus=16,
    memory_mib=65536,
    operating_system="debian-12",
    libvirt_version="9.0.0",
    hypervisor_version="7.2.19",
    agent_version=__version__,
)
FENCE = FenceConfig(agent="fence_dummy")


def host(host_id: str, *, facts: HostFacts | None = FACTS, record: dict[str, Any] | None = None, **config: Any) -> HostRecord:
    """A host that is registered and has reported."""
    made = HostConfig(
        **{
            "probe_target": f"{host_id}:9177",
            "agent_target": f"{host_id}:7401",
            "libvirt_uri": "test:///default",
            "fence": FENCE,
            **config,
        }
    )
    more = {"incarnation": 1, "config_confirmed": 1, **(record or {})}
    return HostRecord(host_id=host_id, cluster_id="c1", config=made, version=1, facts=facts, **more)


def cluster(*hosts: HostRecord, cluster_id: str = "c1", awaited: tuple[str, ...] = (), **config: Any) -> ClusterSnapshot:
    """A cluster that is not protected yet."""
    record = ClusterRecord(
        cluster_id=cluster_id,
        config=ClusterConfig(**config),
        ha_enabled=False,
        version=1,
        config_version=1,
        store_generation=1,
        awaited=awaited,
    )
    return ClusterSnapshot(cluster=record, hosts={h.host_id: h for h in hosts}, groups={})


def running_vm(name: str, *, owner: str = "h1", state: VmState = VmState.RUNNING, **facts: Any) -> VmRecord:
    """A VM whose vm_id is made from its name."""
    return VmRecord(
        vm_id=vm_id(name),
        name=name,
        owner_host_id=owner,
        owner_incarnation=1,
        epoch=1,
        desired_state=state,
        state=state,
        facts=VmFacts(**{"vcpus": 1, "memory_mib": 1024, **facts}),
    )


def vm_id(name: str) -> str:
    """A UUID for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def disk(storage: DiskStorage, *, root: bool = True, **more: Any) -> VmDisk:
    """A disk."""
    return VmDisk(**{"target": "vda" if root else "vdb", "source": "/disks/one", "storage": storage, "root": root, **more})


def found(
    snapshot: ClusterSnapshot, *vms: VmRecord, others: tuple[ClusterSnapshot, ...] = (), running: Running | None = None
) -> list[tuple[str, str, str]]:
    """(type, severity, subject) of every finding."""
    told = check(snapshot, vms, others=others, running=running)
    return [(f.type, f.severity.value, f.subject) for f in told]
