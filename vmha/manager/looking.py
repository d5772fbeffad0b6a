"""Core: when a host is looked at, and what a look leads to."""

from __future__ import annotations

from dataclasses import replace

from vmha.manager import effects as fx
from vmha.manager import lease_rung, silence
from vmha.manager.agenda import NEVER
from vmha.manager.clusterview import ClusterView
from vmha.manager.hostview import HostView

Effects = list[fx.Effect]


def look(cluster: ClusterView, host: HostView, now: float) -> Effects:
    """Look at one host: probe it when its stream is late, judge it when it is stale, prove its death when it is confirmed."""
    done: Effects = []
    if host.is_watched and not cluster.is_planned(host, now):
        done += silence.probe_when_late(cluster, host, now)
        if cluster.is_stale(host, now):
            done += _told_whole(host, silence.judge(cluster, host, now))
    elif lease_rung.waits(host):
        done += lease_rung.climb(cluster, host, now)
    schedule(cluster, host, now)
    return done


def _told_whole(host: HostView, done: Effects) -> Effects:
    """A confirmation without a quorum says so: the runs after this one must give no lease proof for it either."""
    if host.suspicion is None or not host.suspicion.fence_decides:
        return done
    return [replace(effect, fence_decides=True) if isinstance(effect, fx.ConfirmDown) else effect for effect in done]


def look_at_suspects(cluster: ClusterView, now: float) -> Effects:
    """Look at every host that is under suspicion."""
    return [effect for host in list(cluster.hosts.values()) if host.suspicion is not None for effect in look(cluster, host, now)]


def schedule(cluster: ClusterView, host: HostView, now: float) -> None:
    """Set when a host is looked at next."""
    cluster.agenda.put(host, _next_look(cluster, host, now))


def _next_look(cluster: ClusterView, host: HostView, now: float) -> float:
    if not host.is_watched:
        return now + cluster.config.timers.tick_s if lease_rung.waits(host) else NEVER
    if cluster.is_planned(host, now):
        return host.planned_until or NEVER
    late_at, stale_at = cluster.late_at(host), cluster.stale_at(host)
    if now < late_at:
        return late_at
    looks = [max(cluster.probe_due_at(host), now)]
    if now < stale_at:
        looks.append(stale_at)
    if host.suspicion is not None and not host.is_asked:
        confirm_at = host.suspicion.confirm_at
        looks.append(confirm_at if confirm_at is not None and confirm_at > now else now + silence.RETRY_S)
    return min(looks)
