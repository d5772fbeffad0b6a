"""Looks at a cluster before protection is switched on, and whenever an operator asks: `vmha doctor` (S13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmha import __version__
from vmha.errors import BrokenRule, EnablementRefused, NotFound
from vmha.manager.enablement import check, passed, unknown
from vmha.manager.findings import Finding, Running, Severity, bounded
from vmha.manager.operations import Operations
from vmha.manager.refusals import not_leader
from vmha.rpc.scalars import duration, enum_to_proto
from vmha.store.leaders import LeaderRecord
from vmha.store.records import ClusterSnapshot
from vmha.v1 import cluster_service_pb2 as cs


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was looked at, and what was found."""

    snapshot: ClusterSnapshot
    leader: LeaderRecord
    running: Running
    findings: Sequence[Finding]

    def require(self) -> None:
        """Returns when nothing stands against switching protection on.

        Raises:
            EnablementRefused: Names each prerequisite that refuses.
        """
        broken = [f for f in self.told if f.severity is Severity.REFUSES]
        if broken:
            raise EnablementRefused([BrokenRule(f.type, f.subject, f.description) for f in broken])

    @property
    def told(self) -> list[Finding]:
        """The findings, not more than anybody reads."""
        return bounded(self.findings, self.snapshot.cluster.cluster_id)


async def examine(operations: Operations, cluster_id: str) -> Examination:
    """Looks at every prerequisite; any replica can.

    Raises:
        NotFound: CLUSTER_UNKNOWN.
        Unavailable: STORE_UNAVAILABLE.
    """
    store = operations.store
    snapshot, leader = await store.clusters.snapshot(cluster_id), await store.leaders.get(cluster_id)
    running = _running(operations, snapshot, leader)
    others = await _others(operations, snapshot)
    findings = check(snapshot, await store.vms.list(cluster_id), others=others, running=running)
    return Examination(snapshot=snapshot, leader=leader, running=running, findings=findings)


async def check_cluster(operations: Operations, cluster_id: str) -> cs.CheckClusterResponse:
    """What `vmha doctor` shows. Errors as `examine`, and:

    Raises:
        PreconditionFailed: NOT_LEADER, while another replica leads: it knows the clocks.
    """
    leader = await operations.store.leaders.get(cluster_id)
    if leader.address and cluster_id not in operations.discovery.loops:
        raise not_leader(cluster_id, leader)
    seen = await examine(operations, cluster_id)
    fine = passed(seen.snapshot, seen.findings)
    return cs.CheckClusterResponse(
        cluster=operations.cluster_message(seen.snapshot, seen.leader),
        findings=[finding_to_proto(finding) for finding in seen.told],
        passed=[cs.PassedCheck(type=type_, description=words) for type_, words in fine.items()],
        clocks=[_clock(seen.running, host_id) for host_id in sorted(seen.running.clocks)],
        manager_version=__version__,
        unknown_types=unknown(seen.snapshot, seen.findings),
    )


def finding_to_proto(finding: Finding) -> cs.Finding:
    """A finding as it is shown."""
    return cs.Finding(
        type=finding.type,
        severity=enum_to_proto(cs.FindingSeverity, finding.severity),
        subject=finding.subject,
        description=finding.description,
        remedy=finding.remedy,
    )


def _running(operations: Operations, snapshot: ClusterSnapshot, leader: LeaderRecord) -> Running:
    cluster_id = snapshot.cluster.cluster_id
    loop, view = operations.discovery.loops.get(cluster_id), operations.view(cluster_id, leader)
    if view is None:
        return Running(without_agent=frozenset(snapshot.hosts), led=bool(leader.address))
    clocks = {} if loop is None else loop.core.clocks(operations.clock.now())
    led = loop is not None or bool(leader.address)
    return Running(without_agent=frozenset(view.hosts_without_agent), clocks=clocks, led=led, learning=view.learning)


async def _others(operations: Operations, snapshot: ClusterSnapshot) -> list[ClusterSnapshot]:
    """The other clusters; none are read for a cluster without aggregates."""
    if not any(host.config.aggregates for host in snapshot.hosts.values()):
        return []
    found = []
    for cluster_id in await operations.store.clusters.list_ids():
        if cluster_id == snapshot.cluster.cluster_id:
            continue
        try:
            found.append(await operations.store.clusters.snapshot(cluster_id))
        except NotFound:
            continue  # deleted meanwhile
    return found


def _clock(running: Running, host_id: str) -> cs.HostClock:
    clock = running.clocks[host_id]
    shown = cs.HostClock(host_id=host_id, sane=clock.sane)
    if clock.over_s:
        shown.compared_for.CopyFrom(duration(clock.over_s))
        shown.gained.CopyFrom(duration(clock.gained_s))
    return shown
