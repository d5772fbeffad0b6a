"""Core: what others see of a host: reports, scouts, our own probe; and the store's and the evacuator's answers."""

from __future__ import annotations

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager import incidents, lease_rung
from vmha.manager.clusterview import ClusterView
from vmha.manager.hostview import IllegalInput
from vmha.manager.looking import look, schedule
from vmha.model import HostState, Observation, PeerVerdict

Effects = list[fx.Effect]


def report_received(cluster: ClusterView, x: ev.ReportReceived, now: float) -> Effects:
    """A watcher's whole view."""
    done: Effects = []
    for observation in x.observations:
        done += _note_reached(cluster, observation, now)
    if x.scout_id:
        return done + _scout_answered(cluster, x, now)
    if x.reporter_id not in cluster.hosts:
        return done
    known = (o for o in x.observations if o.host_id in cluster.hosts)
    cluster.votes.put(x.reporter_id, known, now, cluster.assignment.get(x.reporter_id))
    for observation in x.observations:
        host = cluster.hosts.get(observation.host_id)
        if host is not None and cluster.is_stale(host, now):
            done += look(cluster, host, now)
    return done


def _note_reached(cluster: ClusterView, seen: Observation, now: float) -> Effects:
    """Whoever says it, credible or not: that a kernel answered without its agent costs a lease proof, and no more."""
    host = cluster.hosts.get(seen.host_id)
    if host is None or seen.verdict is PeerVerdict.TIMEOUT:
        return []
    host.reached_at = max(host.reached_at, now - seen.age_s)
    return lease_rung.reached(cluster, host, now)


def _scout_answered(cluster: ClusterView, x: ev.ReportReceived, now: float) -> Effects:
    done: Effects = []
    for observation in x.observations:
        host = cluster.hosts.get(observation.host_id)
        if host is None or host.scout_id != x.scout_id or x.reporter_id not in host.scouts_asked:
            continue
        host.scouts[x.reporter_id] = observation.verdict
        done += look(cluster, host, now)
    return done


def probe_ended(cluster: ClusterView, x: ev.ProbeEnded, now: float) -> Effects:
    """Our own probe ended."""
    host = cluster.hosts.get(x.host_id)
    if host is None:
        return []
    host.probe, host.probed_at = x.verdict, now
    done: Effects = []
    if x.verdict is not PeerVerdict.TIMEOUT:
        host.reached_at = now
        done = lease_rung.reached(cluster, host, now)
    return done + look(cluster, host, now) if cluster.is_stale(host, now) else done


def suspect_recorded(cluster: ClusterView, x: ev.SuspectRecorded, now: float) -> Effects:
    """The store holds a suspicion."""
    host = cluster.hosts.get(x.host_id)
    if host is None or host.suspicion is None or host.suspicion.confirm_at is not None:
        return []
    host.suspicion.confirm_at = now + max(0.0, x.confirm_in_s)
    done: Effects = []
    if x.confirm_in_s > 0 and host.state is HostState.SUSPECT:
        done = incidents.change(host, HostState.COOLDOWN, "COOLDOWN", f"confirmed in {x.confirm_in_s:.1f} s if it stays silent")
    return done + look(cluster, host, now)


def confirm_ended(cluster: ClusterView, x: ev.ConfirmEnded, now: float) -> Effects:
    """The store's answer to ConfirmDown."""
    host = cluster.hosts.get(x.host_id)
    if host is None:
        return []
    done = incidents.confirm_ended(host, x, now)
    proof = lease_rung.climb(cluster, host, now)
    if any(isinstance(effect, fx.OrderEvacuation) for effect in proof):
        # The cooldown was longer than T_wait: one order says it all.
        done = [effect for effect in done if not isinstance(effect, fx.OrderEvacuation)]
    schedule(cluster, host, now)
    return done + proof


def operator_confirmed_off(cluster: ClusterView, x: ev.OperatorConfirmedOff, now: float) -> Effects:
    """An operator stated that a host is off.

    Raises:
        IllegalInput: Heartbeats of it arrive.
    """
    host = cluster.hosts.get(x.host_id)
    if host is None or not cluster.guard.enabled:
        return []
    if not cluster.is_silent(host, now):
        raise IllegalInput(f"{x.host_id} is alive: heartbeats of it arrive")
    return incidents.operator_confirmed_off(host, x.operator, now)


def evacuation_advanced(cluster: ClusterView, x: ev.EvacuationAdvanced, now: float) -> Effects:
    """The evacuator's word."""
    host = cluster.hosts.get(x.host_id)
    if host is None:
        return []
    done = incidents.advanced(host, x, now)
    schedule(cluster, host, now)
    if done:
        # One incident less may let another one go on: not in the same breath, but when this one's end can be seen by all.
        for other in cluster.hosts.values():
            if other.suspicion is not None and not other.is_asked:
                cluster.agenda.put(other, min(other.due, now + cluster.config.timers.tick_s))
    return done
