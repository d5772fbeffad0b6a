"""Core: signs of life of a host: its sessions, heartbeats, goodbyes and registrations."""

from __future__ import annotations

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager import incidents, membership, silence
from vmha.manager.agenda import NEVER
from vmha.manager.clock_check import ClockCheck
from vmha.manager.clusterview import ClusterView
from vmha.manager.guard import LAG_LIMIT_S
from vmha.manager.hostview import IN_INCIDENT, NO_INCARNATION, HostView, IllegalInput
from vmha.manager.looking import schedule
from vmha.model import GoodbyeReason, HostState

Effects = list[fx.Effect]
CLOCK_WHILES = 4.0
"""Heartbeats of this many times stream_stale are collected for one comparison of clocks: one of them was not held up."""


def session_opened(cluster: ClusterView, x: ev.SessionOpened, now: float) -> Effects:
    """An agent said hello."""
    host = cluster.hosts.get(x.host_id)
    if host is None:
        return []
    # A silence proves what was promised before it. A hello that ends one may take that back at once; what it gives counts from
    # the next heartbeat on: its agent has only begun to stop what ran without it.
    fresh = cluster.is_fresh(x.host_id, now)
    host.announced_watchdog = x.watchdog
    if host.boot_id and x.boot_id != host.boot_id:
        cluster.votes.forget_reporter(x.host_id)
    # An agent that comes back too late for its guard says that it holds none any more.
    self_fencing, watchdog = x.self_fencing and (host.self_fencing or fresh), x.watchdog and (host.watchdog or fresh)
    return incidents.note_agent(host, gone=host.agent_gone, self_fencing=self_fencing, watchdog=watchdog)


def session_closed(cluster: ClusterView, x: ev.SessionClosed, now: float) -> Effects:
    """An agent's session ended, and not by our doing.

    A process that ends is told of at once, by the kernel that outlives it; a host that is cut off is missed only when answers
    stay out for seconds, which is later than its next heartbeat was due.
    """
    host, timers = cluster.hosts.get(x.host_id), cluster.config.timers
    if host is None or host.heard_at is None or now - host.heard_at > timers.heartbeat_interval_s + timers.round_trip_s:
        return []
    return incidents.note_agent(host, gone=True, self_fencing=host.self_fencing)


def heartbeat_received(cluster: ClusterView, x: ev.HeartbeatReceived, now: float) -> Effects:
    """A heartbeat of the incarnation in force.

    Raises:
        IllegalInput: There is no incarnation in force.
    """
    host = cluster.hosts.get(x.host_id)
    if host is None or host.state in IN_INCIDENT:
        return []
    if host.state in NO_INCARNATION:
        raise IllegalInput(f"{x.host_id} is {host.state}: no incarnation of it is in force")
    if x.boot_id != host.boot_id:
        host.boot_id, host.planned_until, host.clock = x.boot_id, None, ClockCheck()
    done: Effects = []
    if host.agent_gone or host.self_fencing is not x.self_fencing or host.watchdog is not host.announced_watchdog:
        done = incidents.note_agent(host, gone=False, self_fencing=x.self_fencing, watchdog=host.announced_watchdog)
    if x.relayed:
        host.relayed_at = now
    else:
        host.heard_at = now
        if x.boot_time_s:
            done += _check_clock(cluster, host, x.boot_time_s, now)
    return done if host.is_asked else done + _beats(cluster, host, x, now)


def _beats(cluster: ClusterView, host: HostView, x: ev.HeartbeatReceived, now: float) -> Effects:
    if host.due == NEVER:
        schedule(cluster, host, now)
    if x.relayed and not cluster.is_fresh(x.host_id, now):
        return _alive(host, HostState.ISOLATED, "RELAYED_ONLY", now)
    state = incidents.streaming(host)
    return [] if host.state is state and not host.alarms else _alive(host, state, "HEARTBEAT", now)


def _check_clock(cluster: ClusterView, host: HostView, boot_time_s: float, now: float) -> Effects:
    timers = cluster.config.timers
    while_s = CLOCK_WHILES * timers.stream_stale_s
    if not host.clock.note(boot_time_s, now, while_s=while_s, slack_s=cluster.clock_slack_s):
        return []
    fast = [h for h in cluster.hosts.values() if h.clock.ran_fast and now - (h.clock.suspect_at or 0.0) <= 2 * while_s]
    if not host.clock.ran_fast or len(fast) < 2 or 2 * len(fast) <= cluster.members():
        return [fx.RecordClock(host_id=host.host_id, suspect=True)]
    # Not all of them run fast: ours runs slow (R21).
    membership.loop_lagged(cluster, ev.LoopLagged(lag_s=2 * LAG_LIMIT_S), now)
    for other in fast:
        other.clock = ClockCheck()
    return [fx.RecordClock(host_id=other.host_id, suspect=False) for other in fast]


def _alive(host: HostView, state: HostState, reason: str, now: float) -> Effects:
    """A sign of life: it clears suspicion, and says so."""
    host.scouts_asked, host.held = (), ""
    done = incidents.clear_alarms(host, "UNCONFIRMABLE", "MASS_FAILURE_HELD") + silence.calm(host, now)
    if host.suspicion is not None:
        return done + incidents.clear(host, state, reason, now)
    return done + incidents.change(host, state, incidents.reason_of(host, state, reason))


def goodbye_received(cluster: ClusterView, x: ev.GoodbyeReceived, now: float) -> Effects:
    """An agent said that it stops on purpose."""
    host = cluster.hosts.get(x.host_id)
    done: Effects = []
    if host is not None and x.reason is GoodbyeReason.HOST_SHUTTING_DOWN and host.is_watched:
        host.planned_until = now + cluster.config.timers.planned_grace_s
        if host.suspicion is not None and not host.is_asked:
            done = incidents.clear(host, HostState.AGENT_LOST, "GOODBYE", now)
        schedule(cluster, host, now)
    return done


def registration_requested(cluster: ClusterView, x: ev.RegistrationRequested, now: float) -> Effects:
    """An agent asks for an incarnation."""
    host = cluster.hosts.get(x.host_id)
    return incidents.registration_requested(host, now) if host else []


def registration_completed(cluster: ClusterView, x: ev.RegistrationCompleted, now: float) -> Effects:
    """A new incarnation is in force."""
    host = cluster.hosts.get(x.host_id)
    if host is None:
        return []
    if x.boot_id != host.boot_id:
        host.clock = ClockCheck()
    done = incidents.registration_completed(host, x.boot_id, now)
    schedule(cluster, host, now)
    return done
