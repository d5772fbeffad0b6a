"""Puts hosts into the store in the states that tests of other rooms start from, by the ways that production takes."""

from __future__ import annotations

from vmha.facts import VmFacts
from vmha.model import ClusterConfig, HostConfig, HostState, VmState
from vmha.store import Store
from vmha.store.records import Incident, VmObservation


async def cluster_of(store: Store, cluster_id: str, host_ids: list[str], *, ha: bool = True) -> dict[str, int]:
    """A cluster whose hosts are registered and HEALTHY; returns their incarnations."""
    await store.clusters.create(cluster_id, ClusterConfig())
    incarnations = {}
    for host_id in host_ids:
        config = HostConfig(probe_target=f"{host_id}:9177", agent_target=f"{host_id}:7401", libvirt_uri="test:///default")
        await store.hosts.create(cluster_id, host_id, config)
        incarnations[host_id] = await register(store, cluster_id, host_id, f"boot-{host_id}-1")
        await store.hosts.set_state(cluster_id, host_id, HostState.HEALTHY, "STREAM_FRESH", "")
    if ha:
        await store.clusters.set_ha(cluster_id, True, None)
    return incarnations


async def register(store: Store, cluster_id: str, host_id: str, boot_id: str) -> int:
    """A host's agent registers and confirms the newest configuration; returns its incarnation."""
    await store.hosts.hello(cluster_id, host_id, boot_id, True)
    incarnation = await store.hosts.offer(cluster_id, host_id, f"token-{boot_id}")
    await store.hosts.complete_registration(cluster_id, host_id, incarnation, boot_id)
    await store.hosts.note(cluster_id, host_id, config_confirmed=(await store.clusters.get(cluster_id)).config_version)
    return incarnation


def running(vm_id: str, *, state: VmState = VmState.RUNNING, reason: str = "", epoch: int = 0) -> VmObservation:
    """What an agent says of a VM."""
    return VmObservation(
        vm_id=vm_id,
        name=f"name-{vm_id}",
        state=state,
        state_reason=reason,
        domain_xml=f"<domain><uuid>{vm_id}</uuid></domain>",
        facts=VmFacts(vcpus=1, memory_mib=512),
        epoch=epoch,
    )


async def own(store: Store, cluster_id: str, host_id: str, vm_ids: list[str]) -> None:
    """The host's agent reports these VMs running, and so becomes their owner."""
    host = await store.hosts.get(cluster_id, host_id)
    observations = [running(vm_id) for vm_id in vm_ids]
    await store.vms.observe(cluster_id, host_id, host.incarnation, observations, full=False, planned_shutdown=False)


async def confirm_down(store: Store, cluster_id: str, host_id: str) -> Incident:
    """The host is suspected and confirmed down."""
    host = await store.hosts.get(cluster_id, host_id)
    await store.incidents.suspect(cluster_id, host_id, host.boot_id, 0.0, 30.0, "SILENT", "three peers in timeout")
    incident = await store.incidents.confirm(cluster_id, host_id, host.boot_id, "three peers in timeout")
    assert incident is not None
    return incident
