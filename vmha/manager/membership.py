"""Core: which hosts there are, by which rules, and what of an earlier run of the manager this one goes on from."""

from __future__ import annotations

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager import incidents
from vmha.manager.clusterview import ClusterView
from vmha.manager.guard import LAG_LIMIT_S
from vmha.manager.hostview import IN_INCIDENT, STREAMING, SUSPECTED, HostView, OpenIncident, Suspicion
from vmha.manager.looking import look_at_suspects, schedule
from vmha.manager.watchgraph import watchers
from vmha.model import PROVEN_DEAD, HostState

Effects = list[fx.Effect]


def cluster_configured(cluster: ClusterView, x: ev.ClusterConfigured, now: float) -> Effects:
    """The cluster's settings."""
    cluster.config = x.config
    cluster.guard.enabled, cluster.guard.safe_mode = x.enabled, x.safe_mode
    cluster.guard.max_down_fraction = x.config.max_down_fraction
    if not cluster.configured:
        cluster.configured = True
        cluster.guard.learn(cluster.started_at, x.config.timers.learning_s)
    for host in cluster.hosts.values():
        schedule(cluster, host, now)
    return []


def configs_known(cluster: ClusterView, x: ev.ConfigsKnown, now: float) -> Effects:
    """The numbered configurations (R18)."""
    cluster.contact.configure(x.voters, now)
    cluster.configs, cluster.enforced = frozenset(x.voters), x.enforced
    cluster.held = {
        host_id: (max(confirmed, cluster.held.get(host_id, (0, 0))[0]), sent) for host_id, (confirmed, sent) in x.held.items()
    }
    return []


def config_confirmed(cluster: ClusterView, x: ev.ConfigConfirmed, now: float) -> Effects:
    """A host holds a configuration, and so none before it."""
    confirmed, sent = cluster.held.get(x.host_id, (0, 0))
    cluster.held[x.host_id] = (max(confirmed, x.version), max(sent, x.version))
    return []


def host_configured(cluster: ClusterView, x: ev.HostConfigured, now: float) -> Effects:
    """A host, new to this run or with new settings."""
    host = cluster.hosts.get(x.host_id)
    if host is None:
        return _restore(cluster, x, now)
    host.in_maintenance, host.has_fence = x.in_maintenance, x.has_fence
    if host.state in STREAMING:
        return incidents.change(host, incidents.streaming(host), "MAINTENANCE" if x.in_maintenance else "MAINTENANCE_ENDED")
    return []


def _restore(cluster: ClusterView, x: ev.HostConfigured, now: float) -> Effects:
    """A host that is new to this run: what a former run knew of it is where this one goes on from."""
    host = HostView(
        x.host_id,
        x.state,
        now,
        created_at=now,
        boot_id=x.boot_id,
        in_maintenance=x.in_maintenance,
        has_fence=x.has_fence,
        self_fencing=x.self_fencing,
        watchdog=x.watchdog,
        announced_watchdog=x.watchdog,
        agent_gone=x.agent_gone,
    )
    host.note_cleared(*(now - age_s for age_s in sorted(x.flaps_age_s, reverse=True)))
    if x.clock_suspect_age_s is not None:
        host.clock.suspect_at = now - x.clock_suspect_age_s
    cluster.add(host)
    done = _resume(host, x, now)
    if x.suspicion is not None and host.suspicion is None:
        # Left over: a later suspicion must not inherit its cooldown.
        done.append(fx.ClearSuspect(host_id=x.host_id, reason="SUSPICION_LOST"))
    schedule(cluster, host, now)
    return done


def _resume(host: HostView, x: ev.HostConfigured, now: float) -> Effects:
    if x.incident_id:
        registered = x.state not in IN_INCIDENT
        was_proven = x.state in PROVEN_DEAD
        host.incident = OpenIncident(x.incident_id, was_proven=was_proven, registered=registered, fence_decides=x.fence_decides)
        return [fx.OrderEvacuation(host_id=x.host_id, incident_id=x.incident_id)]
    if x.suspicion is not None and x.suspicion.boot_id == x.boot_id and x.state in SUSPECTED:
        left = max(0.0, x.suspicion.confirm_in_s)
        host.suspicion = Suspicion(now - x.suspicion.since_age_s, left, x.suspicion.evidence, confirm_at=now + left)
        if x.suspicion.confirm_in_s > 0 and x.state is HostState.SUSPECT:
            return incidents.change(host, HostState.COOLDOWN, "COOLDOWN", x.suspicion.evidence)
        return []
    if x.state in IN_INCIDENT:
        # The incident was closed, and its manager died before it could say so.
        return incidents.change(host, HostState.UNKNOWN, "INCIDENT_CLOSED")
    if x.state in SUSPECTED:
        # The record is gone: a missing key only ever cancels.
        return incidents.change(host, HostState.AGENT_LOST, "SUSPICION_LOST")
    return []


def host_removed(cluster: ClusterView, x: ev.HostRemoved, now: float) -> Effects:
    """A host left the cluster."""
    host = cluster.remove(x.host_id)
    if host is None:
        return []
    done: Effects = [fx.ClearSuspect(host_id=x.host_id, reason="HOST_REMOVED")] if host.suspicion is not None else []
    return done + incidents.clear_alarms(host, *sorted(host.alarms))


def watchers_drawn(cluster: ClusterView, x: ev.WatchersDrawn, now: float) -> Effects:
    """A new round of the watch graph."""
    cluster.assignment, cluster.watchers = x.assignment, watchers(x.assignment)
    cluster.votes.draw(x.assignment, now, cluster.config.timers)
    return []


def store_reachable(cluster: ClusterView, x: ev.StoreReachable, now: float) -> Effects:
    """The store answers, or does not."""
    cluster.guard.store_reachable = x.reachable
    return look_at_suspects(cluster, now)


def store_lost(cluster: ClusterView, x: ev.StoreLost, now: float) -> Effects:
    """The store came back without what it held: as if this manager had just started."""
    _begin_anew(cluster, now)
    done: Effects = []
    for host in cluster.hosts.values():
        if host.suspicion is not None and not host.is_asked:
            done += incidents.clear(host, HostState.AGENT_LOST, "STORE_LOST", now, in_vain=False)
            schedule(cluster, host, now)
    return done


def loop_lagged(cluster: ClusterView, x: ev.LoopLagged, now: float) -> Effects:
    """This process stood still, or its clock cannot be trusted (R21): as if this manager had just started."""
    if x.lag_s > LAG_LIMIT_S:
        _begin_anew(cluster, now)
        for host in cluster.hosts.values():
            # What was said meanwhile still waits to be read: silence counts from here.
            host.started_at = now
            host.clock.forget()
    return []


def _begin_anew(cluster: ClusterView, now: float) -> None:
    cluster.guard.learn(now, cluster.config.timers.learning_s)
    cluster.contact.restart(now)
