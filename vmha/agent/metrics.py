"""What Prometheus can read of an agent."""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vmha.agent.lease import Lease
from vmha.agent.lease_events import NEVER
from vmha.clock import Clock
from vmha.model import PeerVerdict
from vmha.probe import ProbeResult

_PROBE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """An agent's figures, on a registry of its own."""

    def __init__(self, clock: Clock) -> None:
        registry = self.registry = CollectorRegistry()
        self._clock = clock
        self._acked_at: float | None = None
        self._series: dict[tuple[str, PeerVerdict], Counter] = {}
        self._probes = Counter(
            "vmha_agent_probes", "Probes that ended, by peer and result.", ["peer", "verdict"], registry=registry
        )
        self._round_trips = Histogram(
            "vmha_agent_probe_round_trip_seconds",
            "Whole scrape of a peer's exporter.",
            registry=registry,
            buckets=_PROBE_BUCKETS_S,
        )
        self.heartbeats_sent = Counter("vmha_agent_heartbeats_sent", "Heartbeats written to the session.", registry=registry)
        self.heartbeats_acked = Counter("vmha_agent_heartbeats_acked", "Heartbeats acknowledged.", registry=registry)
        ack_age = Gauge("vmha_agent_ack_age_seconds", "Since the newest ack that counted; NaN before one.", registry=registry)
        ack_age.set_function(self._ack_age)
        self._count_lease(registry)
        self.sessions = Counter("vmha_agent_sessions", "Sessions that a manager welcomed.", registry=registry)
        self.session_failures = Counter(
            "vmha_agent_session_failures", "Sessions that ended badly.", ["reason"], registry=registry
        )
        self.session_open = Gauge("vmha_agent_session_open", "1 while a manager serves this agent.", registry=registry)
        self.libvirt_up = Gauge("vmha_agent_libvirt_up", "1 while the local libvirt answers.", registry=registry)
        self.libvirt_connects = Counter("vmha_agent_libvirt_connects", "Connections opened to libvirt.", registry=registry)
        self.domains = Gauge("vmha_agent_domains", "Domains, by state.", ["state"], registry=registry)
        self.acts = Counter(
            "vmha_agent_domain_acts", "What was done to domains, by act and result.", ["act", "result"], registry=registry
        )

    def _count_lease(self, registry: CollectorRegistry) -> None:
        self.acks_ignored = Counter(
            "vmha_agent_acks_ignored", "Acks that came too late or were not for this registration.", registry=registry
        )
        self.relays = Counter(
            "vmha_agent_relays", "Questions put to peers, by answer: ack, attest, neither, failed.", ["answer"], registry=registry
        )
        self.relayed = Counter(
            "vmha_agent_relayed", "Questions of peers, by this agent's answer: ack, attest.", ["answer"], registry=registry
        )
        self.self_fencings = Counter("vmha_agent_self_fencings", "Times that all VMs were destroyed.", registry=registry)
        self.self_fencings_late = Counter(
            "vmha_agent_self_fencings_late", "Those that took longer than the cluster's kill timeout.", registry=registry
        )

    def watch_lease(self, lease: Lease, clock: Clock) -> None:
        """Show what the lease says."""
        guard = Gauge("vmha_agent_guard_seconds", "What is left of the guard; NaN before one.", registry=self.registry)
        guard.set_function(lambda: _left(lease.guard_until, clock.now()))
        latched = Gauge("vmha_agent_latched", "1 from the guard's end to the next registration.", registry=self.registry)
        latched.set_function(lambda: float(lease.latched))
        certificates = Gauge(
            "vmha_agent_certificates", "Times that a majority's word took the lease's place.", registry=self.registry
        )
        certificates.set_function(lambda: float(lease.certificates))

    def probed(self, peer: str, result: ProbeResult) -> None:
        """A probe has ended."""
        series = self._series.get((peer, result.verdict))
        if series is None:
            series = self._series[peer, result.verdict] = self._probes.labels(peer, str(result.verdict))
        series.inc()
        if result.round_trip_s is not None:
            self._round_trips.observe(result.round_trip_s)

    def forget_peer(self, peer: str) -> None:
        """A peer is probed no more: its series end, or they would pile up with every drawing."""
        for verdict in PeerVerdict:
            self._series.pop((peer, verdict), None)
            with suppress(KeyError):
                self._probes.remove(peer, str(verdict))

    def acked(self, at: float) -> None:
        """An ack counted."""
        self.heartbeats_acked.inc()
        self._acked_at = at

    def _ack_age(self) -> float:
        return float("nan") if self._acked_at is None else max(0.0, self._clock.now() - self._acked_at)


def _left(until: float, now: float) -> float:
    return float("nan") if until == NEVER else max(0.0, until - now)
