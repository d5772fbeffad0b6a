"""Core: is a host dead? Events in, effects out, one machine (`hostview.TRANSITIONS`), one table of evidence (`verdict.find`).

A host is called dead only when its own stream is stale, a quorum of credible peers meets silence, nobody meets life, the
manager's own probe meets silence, the cooldown has passed meanwhile, and the guard holds nothing back. A missing fact only ever
delays.
No async, no clock, no I/O: `now` is seconds on the manager's monotonic clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager import incidents, silence
from vmha.manager.clusterview import ClusterView
from vmha.manager.evidence import PLANNED, SUMMARIES, HostEvidence
from vmha.manager.guard import LAG_LIMIT_S, Guard
from vmha.manager.hostview import (
    IN_INCIDENT,
    NO_INCARNATION,
    PROVEN_DEAD,
    STREAMING,
    SUSPECTED,
    HostView,
    IllegalInput,
    OpenIncident,
    Suspicion,
)
from vmha.manager.watchgraph import watchers
from vmha.model import GoodbyeReason, HostState

Effects = list[fx.Effect]
NEVER = float("inf")


class Detector:
    """One cluster's detector."""

    def __init__(self, cluster_id: str, started_at: float) -> None:
        self.cluster_id = cluster_id
        self._cluster = ClusterView(Guard(learning_until=started_at))
        self._configured = False
        self._heap: list[tuple[float, str]] = []
        self._started_at = started_at
        self._on: dict[type, Callable[[Any, float], Effects]] = {
            ev.ClusterConfigured: self._cluster_configured,
            ev.HostConfigured: self._host_configured,
            ev.HostRemoved: self._host_removed,
            ev.SessionOpened: self._session_opened,
            ev.HeartbeatReceived: self._heartbeat_received,
            ev.GoodbyeReceived: self._goodbye_received,
            ev.WatchersDrawn: self._watchers_drawn,
            ev.ReportReceived: self._report_received,
            ev.RegistrationRequested: self._registration_requested,
            ev.RegistrationCompleted: self._registration_completed,
            ev.ProbeEnded: self._probe_ended,
            ev.SuspectRecorded: self._suspect_recorded,
            ev.ConfirmEnded: self._confirm_ended,
            ev.EvacuationAdvanced: self._evacuation_advanced,
            ev.OperatorConfirmedOff: self._operator_confirmed_off,
            ev.StoreReachable: self._store_reachable,
            ev.StoreLost: self._store_lost,
            ev.LoopLagged: self._loop_lagged,
        }

    # The one shape of a core

    def event(self, x: ev.Event, now: float) -> Effects:
        """Take a fact in.

        Raises:
            IllegalInput: It cannot be; nothing was changed.
        """
        handler = self._on.get(type(x))
        if handler is None:
            raise IllegalInput(f"{type(x).__name__} is no event of the detector")
        return handler(x, now)

    def deadline(self) -> float | None:
        """When `tick` is due next; None when nothing is waited for."""
        while self._heap and (
            self._cluster.hosts.get(self._heap[0][1]) is None or self._cluster.hosts[self._heap[0][1]].due != self._heap[0][0]
        ):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def tick(self, now: float) -> Effects:
        """Do what is due."""
        done: Effects = []
        while (due := self.deadline()) is not None and due <= now:
            host = self._cluster.hosts[heapq.heappop(self._heap)[1]]
            host.due = NEVER
            done += self._look(host, now)
        return done

    # Questions

    def state(self, host_id: str) -> HostState:
        """A host's state. KeyError where there is no such host."""
        return self._cluster.hosts[host_id].state

    def may_register(self, host_id: str) -> bool:
        """Whether an incarnation may be offered to a host now (docs/decisions/002)."""
        host = self._cluster.hosts[host_id]
        return not host.is_asked and (host.incident is None or host.incident.lets_register)

    def is_fresh(self, host_id: str, now: float) -> bool:
        """Whether a host's own stream is fresh."""
        return self._cluster.is_fresh(host_id, now)

    def is_flapping(self, host_id: str, now: float) -> bool:
        """Whether a host was suspected in vain too often to be a target."""
        return self._cluster.hosts[host_id].is_flapping(now)

    def learning(self, now: float) -> bool:
        """Whether evidence is only taken in."""
        return not self._configured or now < self._cluster.guard.learning_until

    def explain(self, host_id: str, now: float) -> HostEvidence:
        """The evidence on a host. KeyError where there is no such host."""
        host = self._cluster.hosts[host_id]
        suspicion = host.suspicion
        confirm_at = suspicion.confirm_at if suspicion else None
        return HostEvidence(
            state=host.state,
            summary=PLANNED if self._cluster.is_planned(host, now) and host.is_watched else SUMMARIES[host.state],
            silent_s=None if self.is_fresh(host_id, now) else now - host.quiet_since,
            tally=self._cluster.tally(host, now),
            quorum=self._cluster.quorum(host),
            probe=host.probe,
            probe_age_s=now - host.probed_at if host.probe else None,
            confirm_in_s=None if confirm_at is None else max(0.0, confirm_at - now),
            held=host.held,
        )

    # Membership and settings

    def _cluster_configured(self, x: ev.ClusterConfigured, now: float) -> Effects:
        self._cluster.config = x.config
        self._cluster.guard.enabled = x.enabled
        self._cluster.guard.max_down_fraction = x.config.max_down_fraction
        if not self._configured:
            self._configured = True
            self._cluster.guard.learn(self._started_at, x.config.timers.learning_s)
        for host in self._cluster.hosts.values():
            self._schedule(host, now)
        return []

    def _host_configured(self, x: ev.HostConfigured, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is None:
            return self._restore(x, now)
        host.in_maintenance = x.in_maintenance
        if host.state in STREAMING:
            return incidents.change(host, incidents.streaming(host), "MAINTENANCE" if x.in_maintenance else "MAINTENANCE_ENDED")
        return []

    def _restore(self, x: ev.HostConfigured, now: float) -> Effects:
        """A host that is new to this run: what a former run knew of it is where this one goes on from."""
        host = HostView(x.host_id, x.state, now, boot_id=x.boot_id, in_maintenance=x.in_maintenance)
        self._cluster.add(host)
        done: Effects = []
        if x.incident_id:
            registered = x.state not in IN_INCIDENT
            host.incident = OpenIncident(x.incident_id, was_proven=x.state in PROVEN_DEAD, registered=registered)
            done = [fx.OrderEvacuation(host_id=x.host_id, incident_id=x.incident_id)]
        elif x.suspicion is not None and x.suspicion.boot_id == x.boot_id and x.state in SUSPECTED:
            left = x.suspicion.confirm_in_s
            host.suspicion = Suspicion(
                now - x.suspicion.since_age_s, max(0.0, left), x.suspicion.evidence, confirm_at=now + max(0.0, left)
            )
            if left > 0 and x.state is HostState.SUSPECT:
                done = incidents.change(host, HostState.COOLDOWN, "COOLDOWN", x.suspicion.evidence)
        elif x.state in IN_INCIDENT:
            # The incident was closed, and its manager died before it could say so.
            done = incidents.change(host, HostState.UNKNOWN, "INCIDENT_CLOSED")
        elif x.state in SUSPECTED:
            # The record is gone: a missing key only ever cancels.
            done = incidents.change(host, HostState.AGENT_LOST, "SUSPICION_LOST")
        if x.suspicion is not None and host.suspicion is None:
            # Left over: a later suspicion must not inherit its cooldown.
            done.append(fx.ClearSuspect(host_id=x.host_id, reason="SUSPICION_LOST"))
        self._schedule(host, now)
        return done

    def _host_removed(self, x: ev.HostRemoved, now: float) -> Effects:
        host = self._cluster.remove(x.host_id)
        if host is None:
            return []
        done: Effects = [fx.ClearSuspect(host_id=x.host_id, reason="HOST_REMOVED")] if host.suspicion is not None else []
        return done + incidents.clear_alarms(host, *sorted(host.alarms))

    def _watchers_drawn(self, x: ev.WatchersDrawn, now: float) -> Effects:
        self._cluster.assignment, self._cluster.watchers = x.assignment, watchers(x.assignment)
        self._cluster.votes.draw(x.assignment, now)
        return []

    def _store_reachable(self, x: ev.StoreReachable, now: float) -> Effects:
        self._cluster.guard.store_reachable = x.reachable
        return self._look_at_suspects(now)

    def _store_lost(self, x: ev.StoreLost, now: float) -> Effects:
        self._cluster.guard.learn(now, self._cluster.config.timers.learning_s)
        done: Effects = []
        for host in self._cluster.hosts.values():
            if host.suspicion is not None and not host.is_asked:
                done += incidents.clear(host, HostState.AGENT_LOST, "STORE_LOST", now, in_vain=False)
                self._schedule(host, now)
        return done

    def _loop_lagged(self, x: ev.LoopLagged, now: float) -> Effects:
        if x.lag_s > LAG_LIMIT_S:
            self._cluster.guard.learn(now, self._cluster.config.timers.learning_s)
            for host in self._cluster.hosts.values():
                # What was said meanwhile still waits to be read: silence counts from here.
                host.started_at = now
        return []

    # Signs of life

    def _session_opened(self, x: ev.SessionOpened, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is not None and host.boot_id and x.boot_id != host.boot_id:
            self._cluster.votes.forget_reporter(x.host_id)
        return []

    def _heartbeat_received(self, x: ev.HeartbeatReceived, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is None or host.state in IN_INCIDENT:
            return []
        if host.state in NO_INCARNATION:
            raise IllegalInput(f"{x.host_id} is {host.state}: no incarnation of it is in force")
        if x.boot_id != host.boot_id:
            host.boot_id, host.planned_until = x.boot_id, None
        if x.relayed:
            host.relayed_at = now
        else:
            host.heard_at = now
        if host.is_asked:
            return []
        if host.due == NEVER:
            self._schedule(host, now)
        if x.relayed and not self.is_fresh(x.host_id, now):
            return self._alive(host, HostState.ISOLATED, "RELAYED_ONLY", now)
        state = incidents.streaming(host)
        return [] if host.state is state and not host.alarms else self._alive(host, state, "HEARTBEAT", now)

    def _alive(self, host: HostView, state: HostState, reason: str, now: float) -> Effects:
        """A sign of life: it clears suspicion, and says so."""
        host.scouts_asked, host.held = (), ""
        done = incidents.clear_alarms(host, "UNCONFIRMABLE", "MASS_FAILURE_HELD") + silence.calm(host, now)
        if host.suspicion is not None:
            return done + incidents.clear(host, state, reason, now)
        return done + incidents.change(host, state, reason)

    def _goodbye_received(self, x: ev.GoodbyeReceived, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        done: Effects = []
        if host is not None and x.reason is GoodbyeReason.HOST_SHUTTING_DOWN and host.is_watched:
            host.planned_until = now + self._cluster.config.timers.planned_grace_s
            if host.suspicion is not None and not host.is_asked:
                done = incidents.clear(host, HostState.AGENT_LOST, "GOODBYE", now)
            self._schedule(host, now)
        return done

    # Evidence

    def _report_received(self, x: ev.ReportReceived, now: float) -> Effects:
        if x.scout_id:
            return self._scout_answered(x, now)
        if x.reporter_id not in self._cluster.hosts:
            return []
        known = (o for o in x.observations if o.host_id in self._cluster.hosts)
        self._cluster.votes.put(x.reporter_id, known, now, self._cluster.assignment.get(x.reporter_id))
        done: Effects = []
        for observation in x.observations:
            host = self._cluster.hosts.get(observation.host_id)
            if host is not None and self._cluster.is_stale(host, now):
                done += self._look(host, now)
        return done

    def _scout_answered(self, x: ev.ReportReceived, now: float) -> Effects:
        done: Effects = []
        for observation in x.observations:
            host = self._cluster.hosts.get(observation.host_id)
            if host is None or host.scout_id != x.scout_id or x.reporter_id not in host.scouts_asked:
                continue
            host.scouts[x.reporter_id] = observation.verdict
            done += self._look(host, now)
        return done

    def _probe_ended(self, x: ev.ProbeEnded, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is None:
            return []
        host.probe, host.probed_at = x.verdict, now
        return self._look(host, now) if self._cluster.is_stale(host, now) else []

    # Looking

    def _look(self, host: HostView, now: float) -> Effects:
        """Look at one host: probe it when its stream is late, judge it when it is stale."""
        done: Effects = []
        if host.is_watched and not self._cluster.is_planned(host, now):
            done += silence.probe_when_late(self._cluster, host, now)
            if self._cluster.is_stale(host, now):
                done += silence.judge(self._cluster, host, now)
        self._schedule(host, now)
        return done

    def _suspect_recorded(self, x: ev.SuspectRecorded, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is None or host.suspicion is None or host.suspicion.confirm_at is not None:
            return []
        host.suspicion.confirm_at = now + max(0.0, x.confirm_in_s)
        done: Effects = []
        if x.confirm_in_s > 0 and host.state is HostState.SUSPECT:
            done = incidents.change(
                host, HostState.COOLDOWN, "COOLDOWN", f"confirmed in {x.confirm_in_s:.1f} s if it stays silent"
            )
        return done + self._look(host, now)

    def _look_at_suspects(self, now: float) -> Effects:
        return [
            effect
            for host in list(self._cluster.hosts.values())
            if host.suspicion is not None
            for effect in self._look(host, now)
        ]

    # Incidents

    def _confirm_ended(self, x: ev.ConfirmEnded, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is None:
            return []
        done = incidents.confirm_ended(host, x, now)
        self._schedule(host, now)
        return done

    def _operator_confirmed_off(self, x: ev.OperatorConfirmedOff, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is None or not self._cluster.guard.enabled:
            return []
        if not self._cluster.is_silent(host, now):
            raise IllegalInput(f"{x.host_id} is alive: heartbeats of it arrive")
        return incidents.operator_confirmed_off(host, x.operator, now)

    def _evacuation_advanced(self, x: ev.EvacuationAdvanced, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is None:
            return []
        done = incidents.advanced(host, x, now)
        self._schedule(host, now)
        # One incident less may let another one go on.
        return done + self._look_at_suspects(now) if done else []

    def _registration_requested(self, x: ev.RegistrationRequested, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        return incidents.registration_requested(host, now) if host else []

    def _registration_completed(self, x: ev.RegistrationCompleted, now: float) -> Effects:
        host = self._cluster.hosts.get(x.host_id)
        if host is None:
            return []
        done = incidents.registration_completed(host, x.boot_id, now)
        self._schedule(host, now)
        return done

    # Time

    def _schedule(self, host: HostView, now: float) -> None:
        due = self._next_look(host, now)
        if due != host.due:
            host.due = due
            if due != NEVER:
                heapq.heappush(self._heap, (due, host.host_id))

    def _next_look(self, host: HostView, now: float) -> float:
        if not host.is_watched:
            return NEVER
        if self._cluster.is_planned(host, now):
            return host.planned_until or NEVER
        late_at, stale_at = self._cluster.late_at(host), self._cluster.stale_at(host)
        if now < late_at:
            return late_at
        looks = [max(self._cluster.probe_due_at(host), now)]
        if now < stale_at:
            looks.append(stale_at)
        if host.suspicion is not None and not host.is_asked:
            confirm_at = host.suspicion.confirm_at
            looks.append(confirm_at if confirm_at is not None and confirm_at > now else now + silence.RETRY_S)
        return min(looks)
