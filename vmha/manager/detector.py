"""Core: is a host dead? Events in, effects out, one machine (`hostview.TRANSITIONS`), one table of evidence (`verdict.find`).

A host is called dead only when its own stream is stale, a quorum of credible peers meets silence, nobody meets life, the
manager's own probe meets silence, the cooldown has passed meanwhile, and the guard holds nothing back. A missing fact only ever
delays. Beside it: `membership` (which hosts, which rules), `signs` (of life), `sightings` (by others), `looking` (when a host is
judged), `silence` and `lease_rung` (what follows).
No async, no clock, no I/O: `now` is seconds on the manager's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager import membership, sightings, signs
from vmha.manager.clock_check import ClockReading
from vmha.manager.clusterview import ClusterView
from vmha.manager.contact import Contact
from vmha.manager.evidence import PLANNED, SUMMARIES, HostEvidence
from vmha.manager.guard import Guard
from vmha.manager.hostview import IllegalInput
from vmha.manager.looking import look
from vmha.model import HostState

Effects = list[fx.Effect]
RETRY_S: Final = 1.0
"""How soon a host is looked at again whose look failed."""

HANDLERS: Final[dict[type, Callable[[ClusterView, Any, float], Effects]]] = {
    ev.ClusterConfigured: membership.cluster_configured,
    ev.ConfigsKnown: membership.configs_known,
    ev.ConfigConfirmed: membership.config_confirmed,
    ev.HostConfigured: membership.host_configured,
    ev.HostRemoved: membership.host_removed,
    ev.WatchersDrawn: membership.watchers_drawn,
    ev.StoreReachable: membership.store_reachable,
    ev.StoreLost: membership.store_lost,
    ev.LoopLagged: membership.loop_lagged,
    ev.SessionOpened: signs.session_opened,
    ev.SessionClosed: signs.session_closed,
    ev.HeartbeatReceived: signs.heartbeat_received,
    ev.GoodbyeReceived: signs.goodbye_received,
    ev.RegistrationRequested: signs.registration_requested,
    ev.RegistrationCompleted: signs.registration_completed,
    ev.ReportReceived: sightings.report_received,
    ev.ProbeEnded: sightings.probe_ended,
    ev.SuspectRecorded: sightings.suspect_recorded,
    ev.ConfirmEnded: sightings.confirm_ended,
    ev.OperatorConfirmedOff: sightings.operator_confirmed_off,
    ev.EvacuationAdvanced: sightings.evacuation_advanced,
}
"""What each event means. The way of the data: membership and signs of life, sightings, looks; `incidents` where they lead to."""


class Detector:
    """One cluster's detector.

    Args:
        cluster_id: The cluster.
        started_at: When this run, or this leader's term, began.
        contact: Who is in two-way contact; shared with whoever takes heartbeats. None: nobody ever is.
    """

    def __init__(self, cluster_id: str, started_at: float, contact: Contact | None = None) -> None:
        self.cluster_id = cluster_id
        self._cluster = ClusterView(
            guard=Guard(learning_until=started_at), contact=contact or Contact(started_at), started_at=started_at
        )

    # The one shape of a core

    def event(self, x: ev.Event, now: float) -> Effects:
        """Take a fact in.

        Raises:
            IllegalInput: It cannot be; nothing was changed.
        """
        handler = HANDLERS.get(type(x))
        if handler is None:
            raise IllegalInput(f"{type(x).__name__} is no event of the detector")
        return handler(self._cluster, x, now)

    def deadline(self) -> float | None:
        """When `tick` is due next; None when nothing is waited for."""
        return self._cluster.agenda.next_due(self._cluster.hosts)

    def tick(self, now: float) -> Effects:
        """Do what is due. Should a look fail, it is due again in a moment, and no other host's effects are lost for it."""
        cluster, done = self._cluster, Effects()
        while (due := self.deadline()) is not None and due <= now:
            host = cluster.agenda.take(cluster.hosts)
            try:
                done += look(cluster, host, now)
            except Exception:
                cluster.agenda.put(host, due if done else now + RETRY_S)
                if not done:
                    raise
                break
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

    def fresh(self, now: float) -> frozenset[str]:
        """The hosts whose own streams are fresh."""
        return self._cluster.fresh(now)

    def is_heard(self, host_id: str, now: float) -> bool:
        """Whether signs of life of a host arrive, its own or by relay. False where there is no such host."""
        host = self._cluster.hosts.get(host_id)
        return host is not None and not self._cluster.is_silent(host, now)

    def is_flapping(self, host_id: str, now: float) -> bool:
        """Whether a host was suspected in vain too often to be a target."""
        return self._cluster.hosts[host_id].is_flapping(now)

    def clocks(self, now: float) -> dict[str, ClockReading]:
        """What is known of the hosts' clocks."""
        slack_s = self._cluster.clock_slack_s
        return {host_id: host.clock.reading(now, slack_s) for host_id, host in self._cluster.hosts.items()}

    def learning(self, now: float) -> bool:
        """Whether evidence is only taken in."""
        return not self._cluster.configured or now < self._cluster.guard.learning_until

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
            held=host.held or host.lease_held,
        )
