"""A small cluster of real lease cores in ticks of a profile, without faults but those that a test asks for: who loses its VMs?

The other side of test_safety.py: there the adversary does what it likes, and nothing may run twice; here the network is as the
constants assume it (I3 to I5), and nothing may be destroyed that need not be.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from vmha.agent.lease import Lease
from vmha.agent.lease_events import (
    AckReceived,
    AskPeers,
    AttestReceived,
    ConfigTaken,
    DestroyAll,
    Event,
    HeartbeatSent,
    LeaseConfig,
    PeerAsked,
    Registered,
)
from vmha.model import Timers

CLUSTER = "c1"
FRESH_INTERVALS = 2.5


def lease_config(timers: Timers, names: tuple[str, ...], **changes: float) -> LeaseConfig:
    """What the cluster's hosts hold."""
    config = LeaseConfig(
        version=1,
        enforced=True,
        voters=names,
        certificate_quorum=len(names) // 2 + 1,
        relay_after_s=timers.relay_after_s,
        certificate_window_s=timers.certificate_window_s,
        attest_after_s=timers.attest_after_s,
        ack_max_age_s=timers.ack_max_age_s,
        lease_duration_s=timers.lease_duration_s,
        request_interval_s=timers.request_interval_s,
        kill_timeout_s=timers.kill_timeout_s,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


@dataclass
class Host:
    """One host: its lease, what peers asked of it, and when it lost its VMs."""

    lease: Lease
    phase: int
    sequence: int = 0
    destroyed_at: float | None = None
    asked: dict[str, tuple[int, float]] = field(default_factory=dict)


class Cluster:
    """The hosts and the way to their manager.

    Attributes:
        manager: Whether a message of a host at this moment gets to the manager and its answer back.
        ack_delay: How long the answer takes.
        peers: Whether two hosts reach one another at this moment.
        bundled: R7: a message carries the newest heartbeat of every peer that asked; else each has a message of its own.
    """

    def __init__(self, timers: Timers, hosts: int, phases: tuple[int, ...] = (), **changes: float) -> None:
        self.timers, self.steps = timers, 0
        names = tuple(f"h{number}" for number in range(hosts))
        self.config = lease_config(timers, names, **changes)
        self.hosts = {name: Host(self._lease(name), phases[place] if phases else 0) for place, name in enumerate(names)}
        self.manager: Callable[[str, float], bool] = lambda _host, _now: True
        self.ack_delay: Callable[[str, float], float] = lambda _host, _now: 0.0
        self.peers: Callable[[str, str, float], bool] = lambda _one, _other, _now: True
        self.round_trip_s = timers.round_trip_s
        self.bundled = True
        self._order = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def _lease(self, name: str) -> Lease:
        lease = Lease(name, CLUSTER, None, 0.0)
        lease.event(ConfigTaken(config=self.config), 0.0)
        lease.event(Registered(incarnation=1), 0.0)
        return lease

    @property
    def now(self) -> float:
        """Seconds."""
        return self.steps * self.timers.tick_s

    @property
    def destroyed(self) -> dict[str, float]:
        """Hosts that lost their VMs, and when."""
        return {name: host.destroyed_at for name, host in self.hosts.items() if host.destroyed_at is not None}

    def run(self, until_s: float) -> None:
        """Let time pass."""
        beats = round(self.timers.heartbeat_interval_s / self.timers.tick_s)
        while self.now < until_s:
            while self._due and self._due[0][0] <= self.now + 1e-9:
                heapq.heappop(self._due)[2]()
            for name, host in self.hosts.items():
                self._look(name)
                if (self.steps + host.phase) % beats == 0:
                    self._beat(name)
            self.steps += 1

    def restart_agent(self, name: str, *, remembers: bool = True) -> None:
        """The agent process starts anew, in the same boot; `remembers` is R9."""
        host = self.hosts[name]
        kept = host.lease.kept if remembers else replace(host.lease.kept, last_ack=self.now)
        host.lease = Lease(name, CLUSTER, kept, self.now)

    # What hosts do

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + delay_s, next(self._order), act))

    def _look(self, name: str) -> None:
        host = self.hosts[name]
        for effect in host.lease.tick(self.now):
            match effect:
                case DestroyAll():
                    host.destroyed_at = self.now
                case AskPeers(hosts=peers):
                    self._ask(name, peers)

    def _tell(self, name: str, event: Event) -> None:
        self._look(name)
        self.hosts[name].lease.event(event, self.now)

    def _heartbeat(self, name: str) -> int:
        host = self.hosts[name]
        host.sequence += 1
        self._tell(name, HeartbeatSent(sequence=host.sequence))
        return host.sequence

    def _beat(self, name: str) -> None:
        host = self.hosts[name]
        if host.lease.latched:
            return
        fresh_s = FRESH_INTERVALS * self.timers.heartbeat_interval_s
        carried = [(peer, sequence) for peer, (sequence, at) in host.asked.items() if self.now - at <= fresh_s]
        own = (name, self._heartbeat(name))
        for message in [[own, *carried]] if self.bundled else [[own], *([one] for one in carried)]:
            if self.manager(name, self.now):
                self._later(self.ack_delay(name, self.now), lambda acked=tuple(message): self._acked(name, acked))  # type: ignore[misc]

    def _acked(self, through: str, heartbeats: tuple[tuple[str, int], ...]) -> None:
        for name, sequence in heartbeats:
            if name == through or self.peers(name, through, self.now):
                nonce = f"{name}-{next(self._order)}"
                self._tell(name, AckReceived(incarnation=1, sequence=sequence, nonce=nonce))

    def _ask(self, name: str, peers: tuple[str, ...]) -> None:
        sequence = self._heartbeat(name)
        for peer in peers:
            nonce = f"request-{next(self._order)}"
            self._tell(name, PeerAsked(host_id=peer, request_nonce=nonce))
            if self.peers(name, peer, self.now):
                self.hosts[peer].asked[name] = (sequence, self.now)
                self._later(self.round_trip_s, lambda peer=peer, nonce=nonce: self._attest(name, peer, nonce))  # type: ignore[misc]

    def _attest(self, name: str, peer: str, nonce: str) -> None:
        age = self.hosts[peer].lease.no_ack_age(self.now)
        if self.peers(name, peer, self.now):
            attest = AttestReceived(host_id=peer, cluster_id=CLUSTER, incarnation=1, request_nonce=nonce, no_ack_age_s=age)
            self._tell(name, attest)
