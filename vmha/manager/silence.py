"""Core: what is done about a host whose stream is late or stale: probe, judge, scout, suspect, ask for its confirmation."""

from __future__ import annotations

import heapq

from vmha.manager import effects as fx
from vmha.manager import incidents, lease_rung
from vmha.manager.clusterview import ClusterView
from vmha.manager.contact import NoLeaseProof
from vmha.manager.evidence import sentence
from vmha.manager.hostview import HostView, Suspicion
from vmha.manager.verdict import SCOUTS, Finding, Scouting, find
from vmha.manager.votes import ALIVE
from vmha.model import HostState, PeerVerdict, ProofPolicy

Effects = list[fx.Effect]
RETRY_S = 1.0
"""How soon a confirmation that is held back, or an answer that does not come, is looked at again."""


def probe_when_late(cluster: ClusterView, host: HostView, now: float) -> Effects:
    """Begin to probe a host before its stream is stale, so that the manager's own word is there when it is needed."""
    if now < cluster.late_at(host) or now < cluster.probe_due_at(host):
        return []
    host.probe_asked_at = now
    return [fx.ProbeHost(host_id=host.host_id)]


def judge(cluster: ClusterView, host: HostView, now: float) -> Effects:
    """Judge a host whose stream is stale, by the table in `verdict`."""
    tally, quorum = cluster.tally(host, now), cluster.quorum(host)
    found = find(tally, quorum, cluster.fresh_probe(host, now), _scouting(cluster, host, now))
    evidence = sentence(host, tally, quorum, now)
    if found is Finding.UNCONFIRMABLE:
        return _unconfirmable(cluster, host, evidence, now)
    done = incidents.clear_alarms(host, "UNCONFIRMABLE")
    match found:
        case Finding.AGENT_LOST:
            done += _agent_lost(cluster, host, evidence, now)
        case Finding.SCOUT:
            done += _send_scouts(cluster, host, now)
        case Finding.SUSPECT:
            done += _suspect(cluster, host, evidence, now)
    return done


def _unconfirmable(cluster: ClusterView, host: HostView, evidence: str, now: float) -> Effects:
    """Too few credible reporters: an alarm, and nothing more, unless a fence device can say what they cannot."""
    if not _is_overdue(cluster, host, now):
        return []
    done = incidents.raise_alarm(host, "UNCONFIRMABLE", evidence)
    if not host.has_fence:
        return done
    return done + _suspect(cluster, host, f"too few credible reporters, the fence decides: {evidence}", now, fence_decides=True)


def calm(host: HostView, now: float) -> Effects:
    """A host that was not suspected for long enough is no longer called flapping."""
    if incidents.FLAPPING not in host.alarms or host.is_flapping(now):
        return []
    return [*incidents.clear_alarms(host, incidents.FLAPPING), fx.RecordCalm(host_id=host.host_id, state=host.state)]


def _agent_lost(cluster: ClusterView, host: HostView, evidence: str, now: float) -> Effects:
    done: Effects = []
    if host.reached_at > host.last_beat_at + cluster.config.timers.heartbeat_interval_s + cluster.config.timers.round_trip_s:
        done = incidents.note_agent(host, gone=True, self_fencing=host.self_fencing)
    if host.suspicion is None:
        return done + incidents.change(host, HostState.AGENT_LOST, "PEERS_REACH_HOST", evidence)
    if host.is_asked:
        return done
    return done + incidents.clear(host, HostState.AGENT_LOST, "PEERS_REACH_HOST", now)


def _is_overdue(cluster: ClusterView, host: HostView, now: float) -> bool:
    """Whether the peers have had ample time for a verdict, and somebody relies on them for one."""
    timers, guard = cluster.config.timers, cluster.guard
    if not guard.enabled or now < guard.learning_until:
        return False
    return now > cluster.stale_at(host) + 2 * timers.probe_misses * timers.probe_interval_s


def _suspect(cluster: ClusterView, host: HostView, evidence: str, now: float, *, fence_decides: bool = False) -> Effects:
    if host.suspicion is not None:
        if not host.is_asked:
            # Of this very look, which may ask for its confirmation.
            host.suspicion.fence_decides = fence_decides
        return _go_on(cluster, host, host.suspicion, evidence, now)
    cooldown_s = host.cooldown_s(cluster.config.timers.cooldown_s, now)
    host.suspicion = Suspicion(now, cooldown_s, evidence, asked_at=now, fence_decides=fence_decides)
    done: Effects = []
    if host.is_flapping(now):
        done = incidents.raise_alarm(host, "FLAPPING", f"suspected again within an hour; cooldown {cooldown_s:g} s")
    done += incidents.change(host, HostState.SUSPECT, _reason(host.suspicion), evidence)
    return [*done, _record(host, host.suspicion)]


def _reason(suspicion: Suspicion) -> str:
    return "UNCONFIRMABLE" if suspicion.fence_decides else "QUORUM_TIMEOUT"


def _record(host: HostView, suspicion: Suspicion) -> fx.Effect:
    return fx.RecordSuspect(
        host_id=host.host_id,
        boot_id=host.boot_id,
        cooldown_s=suspicion.cooldown_s,
        reason=_reason(suspicion),
        evidence=suspicion.evidence,
    )


def _go_on(cluster: ClusterView, host: HostView, suspicion: Suspicion, evidence: str, now: float) -> Effects:
    """The evidence still stands: record it where the store has not answered yet, confirm it when the cooldown is over."""
    if host.is_asked:
        return []
    if suspicion.confirm_at is None:
        if now - suspicion.asked_at < RETRY_S or not cluster.guard.store_reachable:
            return []
        suspicion.asked_at = now
        return [_record(host, suspicion)]
    return _confirm(cluster, host, suspicion, evidence, now) if now >= suspicion.confirm_at else []


def _confirm(cluster: ClusterView, host: HostView, suspicion: Suspicion, evidence: str, now: float) -> Effects:
    if host.incident is not None:
        # It came back while its last evacuation only waited for room, and is gone again: the store knows one incident of it.
        host.held = "INCIDENT_OPEN"
        return []
    down, members = cluster.silent(now), cluster.members()
    host.held = cluster.guard.held(down, members, now)
    if host.held == "MASS_FAILURE_HELD":
        suspicion.held_at = now
        text = f"{down} hosts are silent at once; at most {cluster.guard.limit(members)} are recovered at a time"
        return incidents.raise_alarm(host, "MASS_FAILURE_HELD", text)
    if not host.held and (short := _short_of_contact(cluster, host, now)):
        host.held, suspicion.held_at = "NOT_IN_CONTACT", now
        return incidents.raise_alarm(host, "MASS_FAILURE_HELD", short)
    if not host.held and _others_return(cluster, suspicion, now):
        host.held = "MASS_FAILURE_HELD"
    if host.held:
        return []
    suspicion.confirm_asked_at, suspicion.evidence = now, evidence
    done = incidents.clear_alarms(host, "MASS_FAILURE_HELD")
    return [*done, fx.ConfirmDown(host_id=host.host_id, boot_id=host.boot_id, evidence=evidence)]


def _others_return(cluster: ClusterView, suspicion: Suspicion, now: float) -> bool:
    """Whether it was held with many until a moment ago: what brought one of them back may bring this one, and is waited for."""
    return suspicion.held_at is not None and now < suspicion.held_at + cluster.config.timers.stream_stale_s


def _short_of_contact(cluster: ClusterView, host: HostView, now: float) -> str:
    """Where the lease is to prove the death: why it could not, for too few voters are in contact; else empty (design 5.5)."""
    if host.has_fence or cluster.config.proof is not ProofPolicy.LADDER:
        return ""
    found = lease_rung.examine(cluster, host, now)
    return found.message if isinstance(found, NoLeaseProof) and found.reason == "NOT_IN_CONTACT" else ""


def _send_scouts(cluster: ClusterView, host: HostView, now: float) -> Effects:
    """Ask more credible peers to probe now: first those that do not watch the host in this round."""
    if now - host.scouted_at < _patience_s(cluster):
        return []
    watchers = cluster.watchers.get(host.host_id, ())
    others = [other for other in cluster.hosts if other != host.host_id and _is_credible(cluster, host, other, now)]
    # Whoever says "up" has said it: others are asked, where there are any.
    doubted = {c.vote.reporter_id for c in cluster.tally(host, now).votes if c.vote.verdict is PeerVerdict.OK}
    others = [other for other in others if other not in doubted] or others
    # From the host's own place in the alphabet on: the same five are not asked about everybody.
    asked = tuple(heapq.nsmallest(SCOUTS, others, key=lambda other: (other in watchers, other < host.host_id, other)))
    if not asked:
        return []
    cluster.scout_count += 1
    host.scout_id, host.scouted_at = f"{host.host_id}/{cluster.scout_count}", now
    host.scouts, host.scouts_asked = {}, asked
    return [fx.SendScouts(host_id=host.host_id, reporters=asked, scout_id=host.scout_id)]


def _patience_s(cluster: ClusterView) -> float:
    timers = cluster.config.timers
    return timers.probe_misses * timers.probe_interval_s + timers.probe_timeout_s


def _scouting(cluster: ClusterView, host: HostView, now: float) -> Scouting | None:
    """What the scouts met; None where none were sent since the host fell silent, or too long ago to count."""
    age = now - host.scouted_at
    if not host.scouts_asked or host.scouted_at < host.silent_since or age > 3 * _patience_s(cluster):
        return None
    met = [verdict for scout, verdict in host.scouts.items() if _is_credible(cluster, host, scout, now)]
    return Scouting(
        timeouts=sum(1 for verdict in met if verdict is PeerVerdict.TIMEOUT),
        alive=sum(1 for verdict in met if verdict in ALIVE),
        asked=len(host.scouts_asked),
        ended=len(host.scouts) == len(host.scouts_asked) or age > _patience_s(cluster),
    )


def _is_credible(cluster: ClusterView, host: HostView, reporter_id: str, now: float) -> bool:
    weights = cluster.weights(host, now)
    return weights.fresh(reporter_id) and not cluster.votes.is_cut_off(reporter_id, host.host_id, weights)
