"""Core: whether this manager leads a cluster (docs/safety.md, R19; docs/decisions/009).

The lease is a record in the store that runs out by itself. The leader counts its own time: from the SENDING of the request that
the store granted, on its own clock, and less than the store gives it. So its time is over before anybody else's can begin,
however long the answer was on its way and however long this process stood still. A lease that has ended here is never taken up
again: the next one has a new term. All times are seconds on CLOCK_BOOTTIME.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MARGIN: Final = 0.1
"""Share of the lease that its holder leaves unused: more than clocks may drift (rho = 0.001), and than a step may last."""
RENEWALS: Final = 3
"""Renewals are sent this many times in a lease: two may fail before it ends."""
LEAST_PAUSE_S: Final = 0.1
"""Between an answer and the next request: a store that refuses at once is not run over."""
OUTLIVES: Final = 1.01
"""A predecessor whose record the store lost has ended after its lease by the slowest clock: kappa, and to spare."""


class Standing(StrEnum):
    """Where this manager stands."""

    FOLLOWING = "FOLLOWING"
    CLAIMING = "CLAIMING"
    LEADING = "LEADING"
    LOST = "LOST"
    """The lease is over; what was done under it is being ended. Nothing is claimed before."""
    RESIGNED = "RESIGNED"
    """This process goes away: it claims nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSent:
    """A claim or renewal is about to be handed to the socket."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWon:
    """The store granted the request that was sent last."""

    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRefused:
    """Somebody else holds the lease, or a newer term is on record.

    Attributes:
        ttl_s: How long the other's lease lasts yet, by the store; 0 when nobody holds it.
        spread: Drawn anew for each refusal, 0 to 1: claimants do not all come at the same moment.
        term: The newest on record.
    """

    term: int
    ttl_s: float
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """The store did not answer: nobody knows whether it granted the request."""

    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadFailed:
    """What a leader needs could not be read: it cannot lead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadEnded:
    """Everything that was done under the last lease has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resigned:
    """This process goes away in good order."""


Event = RequestSent | LeaseWon | LeaseRefused | RequestFailed | LeadFailed | LeadEnded | Resigned


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Ask for a new term, above all that were seen."""

    above_term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Ask for more time under the present term."""

    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLeading:
    """Decide and acknowledge from now on.

    Attributes:
        settled_at: From when on no earlier leader can acknowledge any more, whatever the store has lost.
    """

    term: int
    settled_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StopLeading:
    """End everything that was done under the lease, and answer LeadEnded."""

    term: int


Effect = Claim | Renew | StartLeading | StopLeading


class Leadership:
    """One manager's standing in one cluster.

    Args:
        lease_s: How long the store grants it.
        now: Seconds; the first claim is due at once.
    """

    def __init__(self, lease_s: float, now: float) -> None:
        self._lease_s = lease_s
        self.standing = Standing.FOLLOWING
        self.term = 0
        """Of the present lease, or of the last one."""
        self.newest_term = 0
        """The highest that was seen, whoever's."""
        self._sent_at = self._until = now
        self._asked_at: float | None = None
        self._due = now
        self._steps: Mapping[tuple[Standing, type], Callable[[Any, float], list[Effect]]] = {
            (Standing.CLAIMING, RequestSent): self._sent,
            (Standing.LEADING, RequestSent): self._sent,
            (Standing.CLAIMING, LeaseWon): self._claimed,
            (Standing.LEADING, LeaseWon): self._renewed,
            (Standing.CLAIMING, LeaseRefused): self._refused,
            (Standing.LEADING, LeaseRefused): self._superseded,
            (Standing.CLAIMING, RequestFailed): self._failed,
            (Standing.LEADING, RequestFailed): self._unanswered,
            (Standing.LEADING, LeadFailed): self._lost,
            (Standing.LOST, LeadEnded): self._ended,
            (Standing.FOLLOWING, Resigned): self._resigned,
            (Standing.CLAIMING, Resigned): self._resigned,
            (Standing.LEADING, Resigned): self._resigned,
            (Standing.LOST, Resigned): self._resigned,
        }

    def leads(self, now: float) -> bool:
        """Whether this manager may acknowledge and decide at this moment; ask before each act, never remember the answer."""
        return self.standing is Standing.LEADING and now < self._until

    def deadline(self) -> float | None:
        """When `tick` has something to do; None while an answer is awaited, or nothing is left to do."""
        if self.standing is Standing.LEADING:
            return self._until if self._asked_at is not None else min(self._until, self._due)
        return self._due if self.standing is Standing.FOLLOWING else None

    def event(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened. What does not fit the standing, as a late answer, changes nothing.

        Args:
            event: What happened.
            now: When it is looked at: a lease that ended meanwhile ends first.
        """
        before = self._expire(now)
        step = self._steps.get((self.standing, type(event)))
        return before + (step(event, now) if step is not None else [])

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        ended = self._expire(now)
        if ended or self._asked_at is not None or now < self._due:
            return ended
        if self.standing is Standing.LEADING:
            self._asked_at = now
            return [Renew(term=self.term)]
        if self.standing is Standing.FOLLOWING:
            self.standing, self._asked_at = Standing.CLAIMING, now
            return [Claim(above_term=self.newest_term)]
        return []

    def _expire(self, now: float) -> list[Effect]:
        if self.standing is Standing.LEADING and now >= self._until:
            return self._lost(None, now)
        return []

    def _sent(self, event: RequestSent, now: float) -> list[Effect]:
        self._asked_at = event.at
        return []

    def _claimed(self, event: LeaseWon, now: float) -> list[Effect]:
        self._take(event.term, now)
        if now >= self._until:
            # Answered too late: what is left of it in the store runs out unused.
            self.standing = Standing.FOLLOWING
            self._due = now + LEAST_PAUSE_S
            return []
        self.standing = Standing.LEADING
        return [StartLeading(term=event.term, settled_at=self._sent_at + self._lease_s * OUTLIVES)]

    def _renewed(self, event: LeaseWon, now: float) -> list[Effect]:
        if event.term != self.term:
            return self._lost(event, now)
        self._take(event.term, now)
        return []

    def _take(self, term: int, now: float) -> None:
        if self._asked_at is not None:
            self._sent_at, self._asked_at = self._asked_at, None
        self.term, self.newest_term = term, max(term, self.newest_term)
        self._until = self._sent_at + self._lease_s * (1 - MARGIN)
        self._due = max(self._sent_at + self._lease_s / RENEWALS, now + LEAST_PAUSE_S)

    def _refused(self, event: LeaseRefused, now: float) -> list[Effect]:
        self.standing, self._asked_at = Standing.FOLLOWING, None
        self.newest_term = max(self.newest_term, event.term)
        # Its end may come early, with its holder's good order; or just when the store says, and then not for all at once.
        pause_s = min(event.ttl_s, self._lease_s / RENEWALS) + event.spread * self._lease_s / RENEWALS / 2
        self._due = now + max(LEAST_PAUSE_S, pause_s)
        return []

    def _superseded(self, event: LeaseRefused, now: float) -> list[Effect]:
        self.newest_term = max(self.newest_term, event.term)
        return self._lost(event, now)

    def _failed(self, event: RequestFailed, now: float) -> list[Effect]:
        self.standing, self._asked_at = Standing.FOLLOWING, None
        self._due = now + max(LEAST_PAUSE_S, (0.5 + event.spread / 2) * self._lease_s / RENEWALS)
        return []

    def _unanswered(self, event: RequestFailed, now: float) -> list[Effect]:
        asked_at, self._asked_at = self._asked_at, None
        self._due = max(now + LEAST_PAUSE_S, (now if asked_at is None else asked_at) + self._lease_s / RENEWALS)
        return []

    def _lost(self, event: Event | None, now: float) -> list[Effect]:
        self.standing, self._asked_at, self._until = Standing.LOST, None, now
        return [StopLeading(term=self.term)]

    def _ended(self, event: LeadEnded, now: float) -> list[Effect]:
        # What ended it is seldom over in a moment.
        self.standing, self._due = Standing.FOLLOWING, now + self._lease_s / RENEWALS
        return []

    def _resigned(self, event: Resigned, now: float) -> list[Effect]:
        led, self.standing, self._asked_at = self.standing is Standing.LEADING, Standing.RESIGNED, None
        return [StopLeading(term=self.term)] if led else []
