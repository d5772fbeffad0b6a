"""When to probe which peer, and what the answers add up to. Pure: no clock, no I/O.

Each peer is probed every `probe_interval_s`, in a phase of its own, and never slower: after a miss the next probe keeps its
rhythm. A verdict follows from answers like this:

    OK                  at once
    TIMEOUT             after `probe_misses` timeouts in a row: one lost packet is no silence
    REFUSED, DEGRADED   at once when nothing or TIMEOUT was said before, for the kernel answered; instead of another verdict
                        after `probe_misses` answers in a row that are not OK
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vmha.model import Observation, PeerVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTarget:
    """A peer and where its exporter listens, as host:port."""

    host_id: str
    probe_target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """Event: the peers to probe from now on, and how. Peers that stay keep what is known of them."""

    version: str
    peers: Sequence[PeerTarget]
    probe_interval_s: float
    probe_timeout_s: float
    probe_misses: int


class ProbeEnded(NamedTuple):
    """Event: the probe `number` of a peer has ended. `verdict` is None when it says nothing: this process itself was too late."""

    host_id: str
    number: int
    verdict: PeerVerdict | None
    round_trip_s: float | None = None


class StartProbe(NamedTuple):
    """Effect: probe this peer now, once; answer with ProbeEnded of the same number."""

    host_id: str
    target: str
    timeout_s: float
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictChanged:
    """Effect: what is thought of a peer has changed; report it at once (S4). `old` is None for the first verdict."""

    host_id: str
    old: PeerVerdict | None
    new: PeerVerdict


Event = Assigned | ProbeEnded
Effect = StartProbe | VerdictChanged


@dataclass(slots=True, kw_only=True)
class _Peer:
    """What is known of one peer.

    Attributes:
        due: When its next probe starts.
        running: The number of the probe that is under way; 0 when none is.
        run: The last answer, and how many like it came in a row.
        not_ok: Answers in a row that were not OK.
        seen_at: When an answer last agreed with the verdict.
        seen_count: How many in a row agreed with it, the last time one did.
    """

    target: str
    due: float
    running: int = 0
    run: tuple[PeerVerdict | None, int] = (None, 0)
    not_ok: int = 0
    verdict: PeerVerdict | None = None
    seen_at: float = 0.0
    seen_count: int = 0
    round_trip_s: float | None = None


class ProbePlan:
    """One agent's probes. `version` names the drawing that is probed; empty before the first."""

    def __init__(self) -> None:
        self.version = ""
        self._peers: dict[str, _Peer] = {}
        self._interval_s = 5.0
        self._timeout_s = 1.0
        self._misses = 3
        self._number = 0

    @property
    def peers(self) -> tuple[str, ...]:
        """The peers that are probed, sorted."""
        return tuple(sorted(self._peers))

    def event(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened."""
        if isinstance(event, Assigned):
            self._assign(event, now)
            return []
        return self._end(event, now)

    def deadline(self) -> float | None:
        """When `tick` has something to do; None: not before the next event."""
        due = None
        for peer in self._peers.values():
            if not peer.running and (due is None or peer.due < due):
                due = peer.due
        return due

    def tick(self, now: float) -> list[Effect]:
        """Start the probes that are due."""
        return [self._start(host_id, peer, now) for host_id, peer in self._peers.items() if not peer.running and peer.due <= now]

    def observations(self, now: float) -> list[Observation]:
        """What is thought of each peer. Peers without a verdict yet are left out: nothing is known of them.

        `age_s` counts from the last answer that agreed with the verdict, so that an old OK does not look fresh while
        timeouts come in.
        """
        return [
            Observation(
                host_id=host_id,
                verdict=peer.verdict,
                consecutive_count=max(1, peer.seen_count),
                age_s=max(0.0, now - peer.seen_at),
                round_trip_s=peer.round_trip_s,
            )
            for host_id, peer in sorted(self._peers.items())
            if peer.verdict is not None
        ]

    def _assign(self, assigned: Assigned, now: float) -> None:
        slower = assigned.probe_interval_s < self._interval_s
        self.version = assigned.version
        self._interval_s, self._timeout_s = assigned.probe_interval_s, assigned.probe_timeout_s
        self._misses = max(1, assigned.probe_misses)
        known, self._peers = self._peers, {}
        for place, peer in enumerate(assigned.peers):
            # Spread over the interval: a host that watches many does not ask them all in one moment.
            phase = self._interval_s * place / len(assigned.peers)
            kept = known.get(peer.host_id)
            if kept is None or kept.target != peer.probe_target:
                kept = _Peer(target=peer.probe_target, due=now + phase)
            elif slower:
                kept.due = min(kept.due, now + phase)
            self._peers[peer.host_id] = kept

    def _start(self, host_id: str, peer: _Peer, now: float) -> StartProbe:
        self._number += 1
        peer.running = self._number
        # The rhythm holds, also when this probe starts late; probes that were missed meanwhile are not made up for.
        behind = now - peer.due
        peer.due = now + self._interval_s - (behind % self._interval_s)
        return StartProbe(host_id=host_id, target=peer.target, timeout_s=self._timeout_s, number=self._number)

    def _end(self, ended: ProbeEnded, now: float) -> list[Effect]:
        peer = self._peers.get(ended.host_id)
        if peer is None or peer.running != ended.number:
            return []  # of an earlier drawing
        peer.running = 0
        answer = ended.verdict
        if answer is None:
            return []
        peer.run = (answer, peer.run[1] + 1 if peer.run[0] is answer else 1)
        peer.not_ok = 0 if answer is PeerVerdict.OK else peer.not_ok + 1
        if ended.round_trip_s is not None:
            peer.round_trip_s = ended.round_trip_s
        old = peer.verdict
        if self._convinces(peer, answer):
            peer.verdict = answer
        if answer is peer.verdict:
            peer.seen_at, peer.seen_count = now, peer.run[1]
        if peer.verdict is None or peer.verdict is old:
            return []
        return [VerdictChanged(host_id=ended.host_id, old=old, new=peer.verdict)]

    def _convinces(self, peer: _Peer, answer: PeerVerdict) -> bool:
        if answer is PeerVerdict.OK:
            return True
        if answer is PeerVerdict.TIMEOUT:
            return peer.run[1] >= self._misses
        return peer.verdict in {None, PeerVerdict.TIMEOUT} or peer.not_ok >= self._misses
