"""Core: what the watchers say of a host, and whose word counts.

A vote is one watcher's newest observation of one host. Agents report in full each report interval and at once when a verdict
changes, so a vote that is old still holds as long as its reporter's own stream is fresh: it would have told a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vmha.model import Observation, PeerVerdict, Timers

ALIVE = frozenset({PeerVerdict.REFUSED, PeerVerdict.DEGRADED})
"""Verdicts that only a living kernel gives (docs/decisions/001)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One watcher's word on one host. Times are seconds on the manager's clock."""

    reporter_id: str
    verdict: PeerVerdict
    consecutive_count: int
    seen_at: float
    reported_at: float
    round_trip_s: float | None = None
    retired: bool = False
    """The reporter's newest report does not name the host any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedVote:
    """A vote with its credibility: `discredit` is empty where it counts."""

    vote: Vote
    discredit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """All votes on one host at one moment."""

    votes: tuple[CountedVote, ...] = ()

    def _count(self, verdicts: Iterable[PeerVerdict]) -> int:
        wanted = set(verdicts)
        return sum(1 for counted in self.votes if not counted.discredit and counted.vote.verdict in wanted)

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
        return self._count(PeerVerdict)


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

    def put(self, reporter_id: str, observations: Iterable[Observation], now: float) -> None:
        """Take a watcher's whole view in place of its former one. Observations are dated by their age, on the manager's clock."""
        seen = tuple(observations)
        peers = frozenset(o.host_id for o in seen)
        for host_id in self._reports.get(reporter_id, _Report()).peers - peers:
            self._retire(host_id, reporter_id)
        self._reports[reporter_id] = _Report(now, frozenset(o.host_id for o in seen if o.verdict is PeerVerdict.TIMEOUT), peers)
        for o in seen:
            self._on.setdefault(o.host_id, {})[reporter_id] = Vote(
                reporter_id=reporter_id,
                verdict=o.verdict,
                consecutive_count=o.consecutive_count,
                seen_at=now - o.age_s,
                reported_at=now,
                round_trip_s=o.round_trip_s,
            )

    def forget_reporter(self, reporter_id: str) -> None:
        """Drop what a host said: it booted anew, or left."""
        for host_id in self._reports.pop(reporter_id, _Report()).peers:
            self._on.get(host_id, {}).pop(reporter_id, None)

    def forget_host(self, host_id: str) -> None:
        """Drop what was said of a host, and what it said."""
        self.forget_reporter(host_id)
        self._on.pop(host_id, None)

    def tally(self, host_id: str, fresh: Callable[[str], bool], timers: Timers, now: float) -> Tally:
        """Weigh the votes on a host.

        Args:
            host_id: The host.
            fresh: Reporter -> whether its own stream is fresh.
            timers: The cluster's.
            now: Seconds, monotonic.
        """
        votes = sorted(self._on.get(host_id, {}).values(), key=lambda v: v.reporter_id)
        return Tally(votes=tuple(CountedVote(vote=v, discredit=self._discredit(v, host_id, fresh, timers, now)) for v in votes))

    def _discredit(self, vote: Vote, host_id: str, fresh: Callable[[str], bool], timers: Timers, now: float) -> str:
        if not fresh(vote.reporter_id):
            return "STREAM_STALE"
        if now - vote.reported_at > (retired_vote_s(timers) if vote.retired else 2 * timers.report_interval_s):
            return "VOTE_STALE"
        report = self._reports.get(vote.reporter_id, _Report())
        others = report.peers - {host_id}
        if others and 2 * len(report.timeouts & others) >= len(others):
            return "REPORTER_CUT_OFF"
        return ""

    def _retire(self, host_id: str, reporter_id: str) -> None:
        vote = self._on.get(host_id, {}).get(reporter_id)
        if vote is not None:
            self._on[host_id][reporter_id] = Vote(
                reporter_id=vote.reporter_id,
                verdict=vote.verdict,
                consecutive_count=vote.consecutive_count,
                seen_at=vote.seen_at,
                reported_at=vote.reported_at,
                round_trip_s=vote.round_trip_s,
                retired=True,
            )


def retired_vote_s(timers: Timers) -> float:
    """How long the vote of a watcher that watches somebody else now still counts: until the new watchers can have a verdict."""
    return (timers.probe_misses + 1) * timers.probe_interval_s + timers.probe_timeout_s


def quorum(watchers: int, hosts: int) -> int:
    """Distinct credible reporters that a verdict needs (design section 4).

    Args:
        watchers: k, the watchers of the host in this round.
        hosts: Members of the cluster that count.
    """
    return max(watchers // 2 + 1, 2 if hosts > 2 else 1)
