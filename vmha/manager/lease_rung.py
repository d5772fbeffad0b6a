"""Core: the second rung of the ladder (design section 5.3): has the lease of a host that is confirmed down run out? (R16)

What was proven once stays proven: the incarnation was revoked before, and is never acknowledged again.
"""

from __future__ import annotations

from vmha.manager import effects as fx
from vmha.manager import incidents
from vmha.manager.clusterview import ClusterView
from vmha.manager.contact import LeaseProof, NoLeaseProof
from vmha.manager.hostview import HostView
from vmha.model import HostState

Effects = list[fx.Effect]

UNPROVEN = frozenset({HostState.DOWN, HostState.FENCING, HostState.FENCE_PENDING})
"""States in which a confirmed failure still waits for its proof."""
CLOCK = "CLOCK_SUSPECT"
REACHED = "REACHED_AFTER_LAST_HEARTBEAT"
WITH_A_FENCE = frozenset({HostState.FENCE_PENDING})
"""The one in which its fence has been asked, and proved nothing."""


def waits(host: HostView) -> bool:
    """Whether a lease proof could still help a host's incident. A fence has the first word: it is the first rung."""
    incident = host.incident
    return (
        incident is not None
        and host.state in (WITH_A_FENCE if host.has_fence else UNPROVEN)
        and not incident.is_proven
        and not (incident.lease_proven or incident.fence_decides or incident.registered or incident.cancelling)
    )


def climb(cluster: ClusterView, host: HostView, now: float) -> Effects:
    """Prove that a host's lease has run out, where it has: its evacuation is ordered again, with the proof."""
    if not waits(host) or host.incident is None:
        return []
    found = examine(cluster, host, now)
    if isinstance(found, NoLeaseProof):
        told = host.lease_held.partition(":")[0]
        host.lease_held = f"{found.reason}: {found.message}"
        if told == found.reason:
            return []
        done: Effects = [fx.TellNoProof(host_id=host.host_id, reason=found.reason, message=found.message)]
        if found.reason == CLOCK and host.clock.suspect_at is None:
            # By its last heartbeats alone, which the next leader has not seen.
            done.append(fx.RecordClock(host_id=host.host_id, suspect=True))
        return done
    host.lease_held, host.incident.lease_proven = "", True
    return [fx.OrderEvacuation(host_id=host.host_id, incident_id=host.incident.incident_id, lease_proof=found)]


def reached(cluster: ClusterView, host: HostView, now: float) -> Effects:
    """Somebody met life on a host: whether that says that its agent was gone, and its watchdog does not work.

    Who reached it, and when, is known to this run alone; the next must not take the agent's silence for the host's.
    """
    if host.heard_at is not None and host.reached_at - host.heard_at <= cluster.config.timers.heartbeat_interval_s:
        return []  # nearly always, and each observation asks
    if now < cluster.stale_at(host) or host.reached_at - host.last_beat_at <= _outlives_s(cluster, host):
        return []
    return incidents.note_agent(host, gone=True, self_fencing=host.self_fencing, watchdog=False)


def examine(cluster: ClusterView, host: HostView, now: float) -> LeaseProof | NoLeaseProof:
    """Whether the lease of a silent host has run out, and what stands against it.

    Args:
        cluster: All that is known.
        host: The host; its incarnation is revoked (R17).
        now: Seconds; the time of the decision.
    """
    denied = _denied(cluster, host, now)
    if denied is not None:
        return denied
    return cluster.contact.prove(host.host_id, sorted(cluster.versions_held(host.host_id)), now)


def _denied(cluster: ClusterView, host: HostView, now: float) -> NoLeaseProof | None:
    """What no time heals."""
    if cluster.guard.safe_mode:
        return NoLeaseProof(reason="SAFE_MODE", message="the store was lost, and not everybody has said yet what runs")
    if host.agent_gone and not host.watchdog:
        return NoLeaseProof(reason="AGENT_DIED_FIRST", message="its agent ended before it; nobody is left there to stop its VMs")
    later_s = host.reached_at - host.last_beat_at
    if later_s > _outlives_s(cluster, host):
        message = f"it was reached {later_s:.1f} s after its last heartbeat: its agent was gone, and it was not"
        return NoLeaseProof(reason=REACHED, message=message)
    if not host.clock.is_sane(now, cluster.clock_slack_s):
        return NoLeaseProof(reason=CLOCK, message="its clock ran slower or faster than this manager's")
    return _not_enforced(cluster, host)


def _outlives_s(cluster: ClusterView, host: HostView) -> float:
    """How long after its last heartbeat a host may be reached and still have had its agent, or its watchdog."""
    timers = cluster.config.timers
    slack_s = timers.heartbeat_interval_s + timers.round_trip_s
    # A watchdog resets a host whose agent is gone by T_kill after the guard's end (R10, I6): until then the host may be reached.
    return slack_s + (timers.lease_duration_s + timers.kill_timeout_s if host.watchdog else 0.0)


def _not_enforced(cluster: ClusterView, host: HostView) -> NoLeaseProof | None:
    versions = cluster.versions_held(host.host_id)
    if not versions or cluster.held[host.host_id][0] not in versions:
        message = "it may hold a configuration that this manager does not know"
        return NoLeaseProof(reason="CONFIG_UNKNOWN", message=message)
    if not host.self_fencing or versions - cluster.enforced:
        return NoLeaseProof(reason="SELF_FENCING_OFF", message="it does not stop its VMs by itself")
    return None
