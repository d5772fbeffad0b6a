"""Between the contract's messages and the model: one function for each thing and direction.

What the store keeps (records) becomes a message in `vmha.messages`, which stands above both.
"""

from __future__ import annotations

from typing import Any, Final, cast

from vmha.cluster_config import TIMER_COUNTS, Wishes, merge
from vmha.facts import DiskStorage, HostFacts, SharedDirectory, VmDisk, VmFacts
from vmha.model import (
    ClusterConfig,
    FenceConfig,
    Group,
    GroupMode,
    GroupPolicy,
    HostConfig,
    Observation,
    PeerVerdict,
    Profile,
    ProofPolicy,
    SelfFencing,
)
from vmha.rpc.scalars import duration, enum_from_proto, enum_to_proto, seconds
from vmha.v1 import cluster_pb2, cluster_service_pb2, host_pb2, manager_service_pb2, vm_pb2

# Clusters


_TIMER_FIELDS: Final = {
    field.name: field.name if field.name in TIMER_COUNTS else f"{field.name}_s"
    for field in cluster_pb2.ClusterTimers.DESCRIPTOR.fields
}


def cluster_config_to_proto(config: ClusterConfig) -> cluster_pb2.ClusterConfig:
    """Settings as an operator sees them: the profile, and only those timers that were overridden."""
    timers = cluster_pb2.ClusterTimers()
    for field, name in _TIMER_FIELDS.items():
        value = config.timer_overrides.get(name)
        if value is None:
            continue
        if name in TIMER_COUNTS:
            setattr(timers, field, int(value))
        else:
            getattr(timers, field).CopyFrom(duration(value))
    return cluster_pb2.ClusterConfig(
        profile=enum_to_proto(cluster_pb2.Profile, config.profile),
        timers=timers,
        proof=enum_to_proto(cluster_pb2.ProofPolicy, config.proof),
        self_fencing=enum_to_proto(cluster_pb2.SelfFencing, config.self_fencing),
        max_down_fraction=config.max_down_fraction,
        reserve_fraction=config.reserve_fraction,
        cpu_overcommit=config.cpu_overcommit,
        parallel=config.parallel,
        parallel_per_target=config.parallel_per_target,
        watchers=config.watchers,
        image_directory=config.image_directory,
    )


def timer_overrides(timers: cluster_pb2.ClusterTimers) -> dict[str, float]:
    """The timers that a message sets, by configuration name."""
    return {
        name: getattr(timers, field) if name in TIMER_COUNTS else seconds(getattr(timers, field))
        for field, name in _TIMER_FIELDS.items()
        if timers.HasField(cast(Any, field))
    }


def cluster_config_from_proto(config: cluster_pb2.ClusterConfig, path: str = "config") -> ClusterConfig:
    """Complete settings: the profile's timers with the message's overrides, within bounds.

    Raises:
        InvalidField: Names every setting that is out of bounds.
    """
    wishes = Wishes(
        profile=enum_from_proto(Profile, cluster_pb2.Profile, config.profile, Profile.STANDARD),
        timers=timer_overrides(config.timers),
        proof=enum_from_proto(ProofPolicy, cluster_pb2.ProofPolicy, config.proof, ProofPolicy.LADDER),
        self_fencing=enum_from_proto(SelfFencing, cluster_pb2.SelfFencing, config.self_fencing, SelfFencing.DESTROY),
        max_down_fraction=config.max_down_fraction,
        reserve_fraction=config.reserve_fraction,
        cpu_overcommit=config.cpu_overcommit,
        parallel=config.parallel,
        parallel_per_target=config.parallel_per_target,
        watchers=config.watchers,
        image_directory=config.image_directory,
    )
    return merge(wishes, path)


# Hosts


def host_config_to_proto(config: HostConfig) -> host_pb2.HostConfig:
    """How vmha reaches a host, and what it is."""
    fence = config.fence
    return host_pb2.HostConfig(
        probe_target=config.probe_target,
        agent_target=config.agent_target,
        libvirt_uri=config.libvirt_uri,
        rack=config.rack,
        aggregates=config.aggregates,
        roles=config.roles,
        fence=None if fence is None else _fence_to_proto(fence),
    )


def _fence_to_proto(fence: FenceConfig) -> host_pb2.FenceConfig:
    return host_pb2.FenceConfig(agent=fence.agent, parameters=dict(fence.parameters), secret_files=dict(fence.secret_files))


def host_config_from_proto(config: host_pb2.HostConfig) -> HostConfig:
    """How vmha reaches a host, and what it is. `vmha.rpc.validate` has looked at it before."""
    fence = None
    if config.HasField("fence"):
        fence = FenceConfig(
            agent=config.fence.agent,
            parameters=dict(config.fence.parameters),
            secret_files=dict(config.fence.secret_files),
        )
    return HostConfig(
        probe_target=config.probe_target,
        agent_target=config.agent_target,
        libvirt_uri=config.libvirt_uri,
        rack=config.rack,
        aggregates=tuple(sorted(set(config.aggregates))),
        roles=tuple(sorted(set(config.roles))) or ("hypervisor",),
        fence=fence,
    )


def host_facts_to_proto(facts: HostFacts) -> host_pb2.HostFacts:
    """What an agent found on its host."""
    return host_pb2.HostFacts(
        vcpus=facts.vcpus,
        memory_mib=facts.memory_mib,
        operating_system=facts.operating_system,
        libvirt_version=facts.libvirt_version,
        hypervisor_version=facts.hypervisor_version,
        cpu_model=facts.cpu_model,
        agent_version=facts.agent_version,
        storage_pools=facts.storage_pools,
        machines=facts.machines,
        cpu_models=facts.cpu_models,
        hugepages=[host_pb2.HugePages(size_kib=size, pages=pages) for size, pages in sorted(facts.hugepages.items())],
        shared_directories=[
            host_pb2.SharedDirectory(path=shared.path, storage_id=shared.storage_id, problem=shared.problem)
            for shared in facts.shared_directories
        ],
        tpm_storage_id=facts.tpm_storage_id,
    )


def host_facts_from_proto(facts: host_pb2.HostFacts) -> HostFacts:
    """What an agent found on its host."""
    return HostFacts(
        vcpus=facts.vcpus,
        memory_mib=facts.memory_mib,
        operating_system=facts.operating_system,
        libvirt_version=facts.libvirt_version,
        hypervisor_version=facts.hypervisor_version,
        cpu_model=facts.cpu_model,
        agent_version=facts.agent_version,
        storage_pools=tuple(facts.storage_pools),
        machines=tuple(facts.machines),
        cpu_models=tuple(facts.cpu_models),
        hugepages={pool.size_kib: pool.pages for pool in facts.hugepages},
        shared_directories=tuple(
            SharedDirectory(path=shared.path, storage_id=shared.storage_id, problem=shared.problem)
            for shared in facts.shared_directories
        ),
        tpm_storage_id=facts.tpm_storage_id,
    )


def observation_to_proto(seen: Observation) -> manager_service_pb2.PeerObservation:
    """What one prober saw of one host."""
    return manager_service_pb2.PeerObservation(
        host_id=seen.host_id,
        verdict=enum_to_proto(host_pb2.PeerVerdict, seen.verdict),
        consecutive_count=seen.consecutive_count,
        age=duration(seen.age_s),
        round_trip_duration=None if seen.round_trip_s is None else duration(seen.round_trip_s),
    )


def observation_from_proto(seen: manager_service_pb2.PeerObservation) -> Observation:
    """What one prober saw of one host.

    Raises:
        InvalidField: The verdict is none that this release knows.
    """
    return Observation(
        host_id=seen.host_id,
        verdict=enum_from_proto(PeerVerdict, host_pb2.PeerVerdict, seen.verdict, field="verdict"),
        consecutive_count=max(1, seen.consecutive_count),
        age_s=seconds(seen.age),
        round_trip_s=seconds(seen.round_trip_duration) if seen.HasField("round_trip_duration") else None,
    )


# VMs and groups


def vm_facts_to_proto(facts: VmFacts) -> vm_pb2.VmFacts:
    """What placement needs to know of a VM."""
    return vm_pb2.VmFacts(
        vcpus=facts.vcpus,
        memory_mib=facts.memory_mib,
        ha_enabled=facts.ha_enabled,
        priority=facts.priority,
        aggregates=facts.aggregates,
        machine=facts.machine,
        has_vtpm=facts.has_vtpm,
        has_passthrough=facts.has_passthrough,
        resize_unconfirmed=facts.resize_unconfirmed,
        groups=facts.groups,
        image=facts.image,
        disks=[_disk_to_proto(disk) for disk in facts.disks],
        cpu_mode=facts.cpu_mode,
        cpu_model=facts.cpu_model,
        hugepage_kib=facts.hugepage_kib,
    )


def _disk_to_proto(disk: VmDisk) -> vm_pb2.VmDisk:
    return vm_pb2.VmDisk(
        target=disk.target,
        storage=enum_to_proto(vm_pb2.DiskStorage, disk.storage),
        source=disk.source,
        storage_id=disk.storage_id,
        servers=disk.servers,
        root=disk.root,
    )


def _disk_from_proto(disk: vm_pb2.VmDisk) -> VmDisk:
    return VmDisk(
        target=disk.target,
        storage=enum_from_proto(DiskStorage, vm_pb2.DiskStorage, disk.storage, DiskStorage.UNSPECIFIED),
        source=disk.source,
        storage_id=disk.storage_id,
        servers=tuple(disk.servers),
        root=disk.root,
    )


def vm_facts_from_proto(facts: vm_pb2.VmFacts) -> VmFacts:
    """What placement needs to know of a VM."""
    return VmFacts(
        vcpus=facts.vcpus,
        memory_mib=facts.memory_mib,
        ha_enabled=facts.ha_enabled,
        priority=facts.priority,
        aggregates=tuple(facts.aggregates),
        machine=facts.machine,
        has_vtpm=facts.has_vtpm,
        has_passthrough=facts.has_passthrough,
        resize_unconfirmed=facts.resize_unconfirmed,
        groups=tuple(facts.groups),
        image=facts.image,
        disks=tuple(_disk_from_proto(disk) for disk in facts.disks),
        cpu_mode=facts.cpu_mode,
        cpu_model=facts.cpu_model,
        hugepage_kib=facts.hugepage_kib,
    )


def group_to_proto(group: Group) -> cluster_service_pb2.Group:
    """An affinity rule over VMs."""
    return cluster_service_pb2.Group(
        group_id=group.group_id,
        policy=enum_to_proto(cluster_service_pb2.GroupPolicy, group.policy),
        mode=enum_to_proto(cluster_service_pb2.GroupMode, group.mode),
        vm_ids=group.vm_ids,
        etag=group.etag,
    )


def group_from_proto(group: cluster_service_pb2.Group, path: str = "group") -> Group:
    """An affinity rule over VMs.

    Raises:
        InvalidField: Policy or mode is not given.
    """
    return Group(
        group_id=group.group_id,
        policy=enum_from_proto(GroupPolicy, cluster_service_pb2.GroupPolicy, group.policy, field=f"{path}.policy"),
        mode=enum_from_proto(GroupMode, cluster_service_pb2.GroupMode, group.mode, field=f"{path}.mode"),
        vm_ids=tuple(sorted(set(group.vm_ids))),
        etag=group.etag,
    )
