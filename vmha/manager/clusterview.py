"""Core: what the detector knows of one cluster, and what it reads off it. Nothing here changes a host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from vmha.manager.agenda import Agenda
from vmha.manager.contact import Contact
from vmha.manager.guard import COUNTED_DOWN, Guard
from vmha.manager.hostview import HostView
from vmha.manager.votes import Tally, Votes, Weights, quorum
from vmha.model import PROVEN_DEAD, ClusterConfig, HostState, PeerVerdict

SILENCE = frozenset({None, PeerVerdict.TIMEOUT})
"""What our own probe of a silent host says, or does not say yet."""


@dataclass(slots=True)
class ClusterView:
    """One cluster: its settings, its hosts, what the watchers say.

    Attributes:
        contact: Who is in two-way contact with this manager; shared with whoever takes heartbeats.
        started_at: When this run began to watch it.
        configs: Numbers of the configurations that some host may hold.
        enforced: Those under which agents destroy their VMs when their guard ends.
        held: host_id -> the configurations that it may hold: the number that it confirmed last, and the last one sent (R18).
    """

    guard: Guard
    contact: Contact = field(repr=False)
    started_at: float
    config: ClusterConfig = field(default_factory=ClusterConfig)
    hosts: dict[str, HostView] = field(default_factory=dict)
    votes: Votes = field(default_factory=Votes)
    assignment: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    watchers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    census: Counter[HostState] = field(default_factory=Counter)
    scout_count: int = 0
    configured: bool = False
    configs: frozenset[int] = frozenset()
    enforced: frozenset[int] = frozenset()
    held: dict[str, tuple[int, int]] = field(default_factory=dict)
    agenda: Agenda = field(default_factory=Agenda, repr=False)

    def add(self, host: HostView) -> None:
        """A host that is new to this run."""
        host.census = self.census
        self.census[host.state] += 1
        self.hosts[host.host_id] = host

    def remove(self, host_id: str) -> HostView | None:
        """A host that left. Returns what was known of it."""
        host = self.hosts.pop(host_id, None)
        if host is not None:
            self.census[host.state] -= 1
            self.votes.forget_host(host_id)
            self.contact.forget(host_id)
            self.held.pop(host_id, None)
        return host

    def versions_held(self, host_id: str) -> frozenset[int]:
        """Every configuration that a host may hold: from the last that it confirmed to the last that it was sent (R18)."""
        confirmed, sent = self.held.get(host_id, (0, 0))
        return frozenset(version for version in self.configs if confirmed <= version <= sent)

    def is_fresh(self, host_id: str, now: float) -> bool:
        """Whether a host's own stream is fresh."""
        host = self.hosts.get(host_id)
        return host is not None and self._streams(host, now)

    def fresh(self, now: float) -> frozenset[str]:
        """The hosts whose own streams are fresh."""
        return frozenset(host.host_id for host in self.hosts.values() if self._streams(host, now))

    def _streams(self, host: HostView, now: float) -> bool:
        return host.heard_at is not None and now < host.heard_at + self.config.timers.stream_stale_s

    def is_stale(self, host: HostView, now: float) -> bool:
        """Whether a watched host has given no sign of life for longer than a stream may be silent."""
        return host.is_watched and now >= self.stale_at(host)

    def late_at(self, host: HostView) -> float:
        """When a silent host is worth a probe of our own. The same sum decides and wakes: else rounding makes a timer spin.

        One that this run has not heard yet is worth it just in time for the verdict: after a take-over all are silent.
        """
        timers = self.config.timers
        late_s = timers.stream_stale_s / 2
        if host.heard_at is None and host.relayed_at is None:
            late_s = max(late_s, timers.stream_stale_s - 2 * timers.probe_timeout_s)
        return host.silent_since + late_s

    def stale_at(self, host: HostView) -> float:
        """When the stream of a silent host is stale."""
        return host.silent_since + self.config.timers.stream_stale_s

    def probe_due_at(self, host: HostView) -> float:
        """When our own probe of it may be repeated."""
        return host.probe_asked_at + self.config.timers.probe_interval_s

    def tally(self, host: HostView, now: float) -> Tally:
        """The votes on a host, weighed."""
        return self.votes.tally(host.host_id, self.weights(host, now), now)

    def weights(self, host: HostView, now: float) -> Weights:
        """What votes on a host are weighed by."""
        return Weights(
            fresh=lambda reporter_id: self.is_fresh(reporter_id, now),
            proven_dead=self.is_proven_dead,
            silent_since=host.silent_since,
            timers=self.config.timers,
        )

    def is_proven_dead(self, host_id: str) -> bool:
        """Whether a host's death was proven, and it has not come back."""
        host = self.hosts.get(host_id)
        return host is not None and host.state in PROVEN_DEAD

    def quorum(self, host: HostView) -> int:
        """Credible reporters that a verdict on a host needs. An evacuated host watches nobody."""
        watching = sum(1 for watcher in self.watchers.get(host.host_id, ()) if self.is_member(watcher))
        return quorum(watching, self.members())

    def is_member(self, host_id: str) -> bool:
        """Whether a host counts: an evacuated one has left the cluster until it returns (design section 5.5)."""
        host = self.hosts.get(host_id)
        return host is not None and host.state is not HostState.EVACUATED

    def members(self) -> int:
        """How many hosts count."""
        return len(self.hosts) - self.census[HostState.EVACUATED]

    def down(self) -> int:
        """How many hosts count as down, from SUSPECT on."""
        return sum(self.census[state] for state in COUNTED_DOWN)

    def silent(self, now: float) -> int:
        """How many hosts meet silence at once: those that count as down, and those that are stale and not judged yet.

        Of hosts that lose power together the first is judged a moment before the others; it must not be taken for the only one.
        """
        unjudged = (
            host
            for host in self.hosts.values()
            if host.state not in COUNTED_DOWN
            and host.state is not HostState.AGENT_LOST
            and self.is_stale(host, now)
            and not self.is_planned(host, now)
            and self.fresh_probe(host, now) in SILENCE
        )
        return self.down() + sum(1 for _ in unjudged)

    @property
    def clock_slack_s(self) -> float:
        """By how much a heartbeat may be held up on its way without saying anything about its sender's clock."""
        return max(self.config.timers.heartbeat_interval_s, self.config.timers.round_trip_s)

    def fresh_probe(self, host: HostView, now: float) -> PeerVerdict | None:
        """The manager's own probe, while it is young enough to count and was made after the host fell silent."""
        timers = self.config.timers
        young = now - host.probed_at <= 2 * timers.probe_interval_s + timers.probe_timeout_s
        return host.probe if young and host.probed_at >= host.silent_since else None

    def is_silent(self, host: HostView, now: float) -> bool:
        """Whether nothing is heard of a host, neither from itself nor by relay."""
        return now >= host.last_heard_at + self.config.timers.stream_stale_s

    def is_planned(self, host: HostView, now: float) -> bool:
        """Whether an announced shutdown of it still excuses its silence."""
        return host.planned_until is not None and now < host.planned_until
