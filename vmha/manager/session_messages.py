"""What the manager says in a session, built from what it knows. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from vmha.model import VmState
from vmha.rpc.scalars import duration, enum_to_proto
from vmha.store.records import MIGRATED_AWAY, ClusterRecord, HostRecord, SafetyConfig, VmRecord
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import vm_pb2

HYPERVISOR: Final = "hypervisor"
OWNERSHIP_BYTES: Final = 512 * 1024
"""One OwnershipUpdate stays below this; agents take in 4 MiB."""


def hypervisors(hosts: Mapping[str, HostRecord]) -> dict[str, HostRecord]:
    """The hosts that run VMs, by host_id."""
    return {host_id: hosts[host_id] for host_id in sorted(hosts) if HYPERVISOR in hosts[host_id].config.roles}


def peer(host: HostRecord) -> ms.Peer:
    """Where to reach a host."""
    return ms.Peer(host_id=host.host_id, probe_target=host.config.probe_target, agent_target=host.config.agent_target)


def assignment(
    cluster: ClusterRecord, hosts: Mapping[str, HostRecord], peers: Iterable[str], version: str
) -> ms.SessionAssignment:
    """Whom a host is to probe in this round, and how often."""
    timers = cluster.config.timers
    return ms.SessionAssignment(
        nonce=f"{version}/{cluster.version}",
        peers=[peer(hosts[host_id]) for host_id in peers if host_id in hosts],
        assignment_version=version,
        report_interval=duration(timers.report_interval_s),
        heartbeat_interval=duration(timers.heartbeat_interval_s),
        peer_refresh_interval=duration(timers.peer_refresh_s),
        probe_interval=duration(timers.probe_interval_s),
        probe_timeout=duration(timers.probe_timeout_s),
        probe_misses=timers.probe_misses,
    )


def agent_config(cluster: ClusterRecord, hosts: Mapping[str, HostRecord], config: SafetyConfig) -> ms.AgentConfig:
    """The newest configuration of the safety protocol (R18). Members and their addresses are not bound to its number."""
    timers = {name.removesuffix("_s"): duration(value) for name, value in config.constants.items()}
    return ms.AgentConfig(
        version=cluster.config_version,
        protection_enabled=config.protected,
        members=[peer(host) for host in hypervisors(hosts).values()],
        voter_host_ids=list(config.voters),
        certificate_quorum=config.certificate_quorum,
        evacuation_quorum=config.evacuation_quorum,
        timers=ms.SafetyTimers(**timers),
        self_fencing=config.self_fencing,
    )


def ownership_updates(
    incarnation: int,
    owned: Sequence[VmRecord],
    releases: Sequence[VmRecord],
    *,
    start_owned: bool,
    admit: bool,
    reported: frozenset[str],
) -> Iterator[ms.OwnershipUpdate]:
    """What a host owns and must give up, in messages of bounded size.

    Args:
        admit: Nothing keeps VMs whose claim was lost from being admitted, or withheld ones from being started.
        reported: VMs that the host reported itself: their XML is not sent back.
    """
    part = ms.OwnershipUpdate(incarnation=incarnation, start_owned=start_owned, more=True)
    for record in owned:
        part.owned.add(
            vm_id=record.vm_id,
            epoch=record.epoch,
            desired_state=enum_to_proto(vm_pb2.VmState, _wanted(record)),
            domain_xml="" if record.vm_id in reported else record.domain_xml,
            admit=admit and record.unadmitted and record.state is VmState.AWAITING_ADMISSION,
            start=admit and record.withheld and _wanted(record) is VmState.RUNNING,
        )
        if part.ByteSize() > OWNERSHIP_BYTES:
            yield part
            part = ms.OwnershipUpdate(incarnation=incarnation, start_owned=start_owned, more=True)
    for record in releases:
        part.releases.add(vm_id=record.vm_id, epoch=record.epoch, owner_host_id=record.owner_host_id)
        if part.ByteSize() > OWNERSHIP_BYTES:
            yield part
            part = ms.OwnershipUpdate(incarnation=incarnation, start_owned=start_owned, more=True)
    part.more = False
    yield part


def _wanted(record: VmRecord) -> VmState:
    # Of a VM that left by a live migration nobody knows where it runs; one that another host executes, or may, runs there (R22).
    seen = record.seen_on and record.seen_state is not VmState.ABSENT
    elsewhere = record.reason == MIGRATED_AWAY or seen or record.moving_to
    return VmState.UNSPECIFIED if elsewhere else record.desired_state
