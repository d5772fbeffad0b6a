"""Core: what the watchers say of a host, and whose word counts.

A vote is one watcher's newest observation of one host. Agents report in full each report interval and at once when a verdict
changes, so a vote that is old still holds as long as its reporter's own stream is fresh: it would have told a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from vmha.model import Observation, PeerVerdict, Timers

ALIVE = frozenset({PeerVerdict.REFUSED, PeerVerdict.DEGRADED})
"""Verdicts that only a living kernel gives (docs/decisions/001)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One watcher's word on one host. Times are seconds on the manager's clock.

    Attributes:
        seen_at: When the watcher last met what it says.
        reported_at: When it last said so.
        retired_at: Since when it watches others instead: its word ends there. None while it is a watcher.
    """

    reporter_id: str
    verdict: PeerVerdict
    consecutive_count: int
    seen_at: float
    reported_at: float
    round_trip_s: float | None = None
    retired_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedVote:
    """A vote with its credibility.

    Attributes:
        discredit: Why it does not count; empty where it does.
        pending: It speaks of life that was met before the host fell silent, and its watcher has not had the time for another
            verdict yet: it neither counts as life, nor may anybody decide without it.
    """

    vote: Vote
    discredit: str = ""
    pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What votes on one host are weighed by.

    Attributes:
        fresh: Host -> whether its own stream is fresh.
        proven_dead: Host -> whether its death is proven: that a reporter meets silence there says nothing about the reporter.
        silent_since: The host's last sign of life.
    """

    fresh: Callable[[str], bool]
    proven_dead: Callable[[str], bool]
    silent_since: float
    timers: Timers


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """All votes on one host at one moment."""

    votes: tuple[CountedVote, ...] = ()

    def _count(self, verdicts: Iterable[PeerVerdict]) -> int:
        wanted = set(verdicts)
        return sum(1 for c in self.votes if not c.discredit and not c.pending and c.vote.verdict in wanted)

    @property
    def timeouts(self) -> int:
        """Credible votes for silence."""
        return self._count({PeerVerdict.TIMEOUT})

    @property
    def ups(self) -> int:
        """Credible votes for "works"."""
        return self._count({PeerVerdict.OK})

    @property
    def alive(self) -> int:
        """Credible votes that show a living kernel, though not a working hypervisor."""
        return self._count(ALIVE)

    @property
    def credible(self) -> int:
        """Credible votes."""
        return self._count(PeerVerdict) + self.pending

    @property
    def pending(self) -> int:
        """Credible votes for a life that was met before the silence, and may be out of date."""
        return sum(1 for c in self.votes if not c.discredit and c.pending)


@dataclass(slots=True)
class _Report:
    at: float = 0.0
    timeouts: frozenset[str] = frozenset()
    peers: frozenset[str] = frozenset()


@dataclass(slots=True)
class Votes:
    """The newest vote of each watcher on each host, in memory only."""

    _on: dict[str, dict[str, Vote]] = field(default_factory=dict)
    _reports: dict[str, _Report] = field(default_factory=dict)

    def put(
        self, reporter_id: str, observations: Iterable[Observation], now: float, assigned: Iterable[str] | None = None
    ) -> None:
        """Take a watcher's whole view in place of its former one. Observations are dated by their age, on the manager's clock.

        Args:
            reporter_id: The watcher.
            observations: All that it says.
            now: Seconds, monotonic.
            assigned: The hosts that it is to watch; what it says of others is the end of an earlier round. None: not known.
        """
        seen = tuple(observations)
        peers = frozenset(o.host_id for o in seen)
        watched = peers if assigned is None else frozenset(assigned)
        for host_id in self._reports.get(reporter_id, _Report()).peers - peers:
            self._retire(host_id, reporter_id, now)
        self._reports[reporter_id] = _Report(now, frozenset(o.host_id for o in seen if o.verdict is PeerVerdict.TIMEOUT), peers)
        for o in seen:
            self._on.setdefault(o.host_id, {})[reporter_id] = Vote(
                reporter_id=reporter_id,
                verdict=o.verdict,
                consecutive_count=o.consecutive_count,
                seen_at=now - o.age_s,
                reported_at=now,
                round_trip_s=o.round_trip_s,
                retired_at=None if o.host_id in watched else now,
            )

    def draw(self, assignment: Mapping[str, Iterable[str]], now: float, timers: Timers) -> None:
        """A new round: who watches a host no more has said its last word on it, whenever its next report comes.

        Last words that can't count any more are dropped: in the end everybody will have watched everybody.
        """
        watched = {reporter_id: frozenset(peers) for reporter_id, peers in assignment.items()}
        over_at = now - verdict_s(timers)
        for host_id, votes in self._on.items():
            for reporter_id, vote in list(votes.items()):
                if vote.retired_at is not None and vote.retired_at < over_at:
                    del votes[reporter_id]
                elif host_id not in watched.get(reporter_id, ()):
                    self._retire(host_id, reporter_id, now)

    def forget_reporter(self, reporter_id: str) -> None:
        """Drop what a host said: it booted anew, or left."""
        self._reports.pop(reporter_id, None)
        for votes in self._on.values():
            votes.pop(reporter_id, None)

    def forget_host(self, host_id: str) -> None:
        """Drop what was said of a host, and what it said."""
        self.forget_reporter(host_id)
        self._on.pop(host_id, None)

    def tally(self, host_id: str, weights: Weights, now: float) -> Tally:
        """Weigh the votes on a host.

        Args:
            host_id: The host.
            weights: What they are weighed by.
            now: Seconds, monotonic.
        """
        votes = sorted(self._on.get(host_id, {}).values(), key=lambda v: v.reporter_id)
        return Tally(votes=tuple(self._weigh(vote, host_id, weights, now) for vote in votes))

    def is_cut_off(self, reporter_id: str, host_id: str, weights: Weights) -> bool:
        """Whether a reporter meets silence at half or more of its peers, the host in question and the proven dead left out.

        Then it is probably the reporter that is cut off. Where there are no such peers, it is not.
        """
        report = self._reports.get(reporter_id, _Report())
        others = [peer for peer in report.peers if peer != host_id and not weights.proven_dead(peer)]
        return bool(others) and 2 * sum(1 for peer in others if peer in report.timeouts) >= len(others)

    def _weigh(self, vote: Vote, host_id: str, weights: Weights, now: float) -> CountedVote:
        discredit = self._discredit(vote, host_id, weights, now)
        if discredit or vote.verdict is PeerVerdict.TIMEOUT:
            return CountedVote(vote=vote, discredit=discredit)
        # The first missing heartbeat came this much later: what was met until then may have been the host's last moment.
        before = vote.seen_at < weights.silent_since + weights.timers.heartbeat_interval_s + weights.timers.probe_timeout_s
        if before and vote.retired_at is not None:
            # No other word will follow, so that there is none means nothing.
            return CountedVote(vote=vote, discredit="WATCHES_OTHERS")
        return CountedVote(vote=vote, pending=before and now < weights.silent_since + verdict_s(weights.timers))

    def _discredit(self, vote: Vote, host_id: str, weights: Weights, now: float) -> str:
        if not weights.fresh(vote.reporter_id):
            return "STREAM_STALE"
        if now - vote.reported_at > 2 * weights.timers.report_interval_s:
            return "VOTE_STALE"
        if vote.retired_at is not None and (
            vote.retired_at < weights.silent_since or now - vote.retired_at > verdict_s(weights.timers)
        ):
            return "WATCHES_OTHERS"
        return "REPORTER_CUT_OFF" if self.is_cut_off(vote.reporter_id, host_id, weights) else ""

    def _retire(self, host_id: str, reporter_id: str, now: float) -> None:
        vote = self._on.get(host_id, {}).get(reporter_id)
        if vote is not None and vote.retired_at is None:
            self._on[host_id][reporter_id] = replace(vote, retired_at=now)


def verdict_s(timers: Timers) -> float:
    """Seconds after the last sign of life (or after a new round) by which each watcher has a verdict and has reported it.

    A host dies at most one heartbeat after its last one; the next probe starts within an interval; the last of the misses ends
    after the probe's timeout; another timeout's length is left for the report's way.
    """
    return timers.heartbeat_interval_s + timers.probe_misses * timers.probe_interval_s + 2 * timers.probe_timeout_s


def quorum(watchers: int, hosts: int) -> int:
    """Distinct credible reporters that a verdict needs (design section 4).

    Args:
        watchers: k, the watchers of the host in this round.
        hosts: Members of the cluster that count.
    """
    return max(watchers // 2 + 1, 2 if hosts > 2 else 1)
