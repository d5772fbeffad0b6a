"""Stands for the lead of one cluster: sends the claims and renewals that the core wants, and has its office begun and ended.

The clock decides alone whether the mandate holds; tasks and timers only see to it that what follows is done soon.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from vmha.clock import Clock
from vmha.errors import Unavailable, VmhaError
from vmha.manager import metrics
from vmha.manager.leadership import (
    Claim,
    Effect,
    Event,
    LeadEnded,
    Leadership,
    LeadFailed,
    LeaseRefused,
    LeaseWon,
    Renew,
    RequestFailed,
    RequestSent,
    Resigned,
    Standing,
    StartLeading,
)
from vmha.manager.mandate import Mandate
from vmha.store import Store
from vmha.store.leaders import Candidate, LeaderRecord, LeaderView, LeaseAnswer

SHORTEST_TIMER_S: Final = 0.001

_log = structlog.get_logger("vmha.manager")


class Office(Protocol):
    """What a leader does."""

    async def begin(self, mandate: Mandate) -> None:
        """Take it up.

        Raises:
            VmhaError: What it needs to know cannot be read now.
        """
        ...

    async def end(self) -> None:
        """Lay it down: the mandate does not hold any more."""
        ...

    def insists(self) -> bool:
        """Whether it would lead a cluster that the store has lost, though another replica led it last."""
        ...

    def view(self) -> LeaderView | None:
        """What other replicas are to show."""
        ...


class _Held:
    """The mandate of one term of `lease`."""

    def __init__(self, lease: LeaderLease, term: int, settled_s: float) -> None:
        self._lease, self.term, self.settled_s = lease, term, settled_s

    def holds(self) -> bool:
        return self._lease.leads(self.term)


class LeaderLease:
    """One replica's standing in one cluster.

    Args:
        lease_s: How long the store grants the lead; the same on all replicas.
        store_away: Told when Redis does not answer.
        dice: Spreads the claims of several replicas.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        cluster_id: str,
        candidate: Candidate,
        lease_s: float,
        office: Office,
        *,
        store_away: Callable[[], None],
        dice: random.Random,
    ) -> None:
        self._store, self._clock, self._cluster_id = store, clock, cluster_id
        self._candidate, self._lease_s, self._office = candidate, lease_s, office
        self._store_away, self._dice = store_away, dice
        self._core = Leadership(lease_s, clock.now())
        self._others: LeaderRecord = LeaderRecord()
        self._mandate: _Held | None = None
        self._served: _Held | None = None
        self._changed, self._answered = asyncio.Event(), asyncio.Event()
        self._turned = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Claim at once. Returns when this replica leads, or knows that it does not yet."""
        self._serving = asyncio.create_task(self._serve(), name=f"office of {self._cluster_id}")
        self._tick()
        await self._answered.wait()

    def leads(self, term: int) -> bool:
        """Whether the lease of a term holds now."""
        return self._core.term == term and self._core.leads(self._clock.now())

    @property
    def was_last(self) -> bool:
        """Whether this replica led, and knows of no leader after itself."""
        return 0 < self._core.term == self._core.newest_term

    @property
    def held(self) -> bool:
        """Whether this replica leads now."""
        return self._core.leads(self._clock.now())

    async def write_again(self) -> bool:
        """Have the store hold the lease that this replica has, though it may have lost it; whether it does.

        The lease lasts no longer here for it.

        Raises:
            Unavailable: STORE_UNAVAILABLE.
            NotFound: CLUSTER_UNKNOWN, the cluster was deleted on purpose.
        """
        leaders, view = self._store.leaders, self._office.view()
        return self.held and (await leaders.renew(self._cluster_id, self._candidate, self._lease_s, self._core.term, view)).won

    @property
    def leader(self) -> LeaderRecord:
        """Who leads, as far as this replica knows; nobody, while it does not, or while it takes up the lead itself."""
        if self._in_office():
            candidate = self._candidate
            return LeaderRecord(term=self._core.term, manager_id=candidate.manager_id, address=candidate.address)
        return self._others

    async def taken_up(self, within_s: float) -> bool:
        """Whether the office has begun under the lease that is held; waits while it is about to, at most `within_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.held and not self._in_office():
                    await self._turned.wait()
        return self._in_office()

    def _in_office(self) -> bool:
        return self._served is not None and self._served.holds()

    def _turn(self) -> None:
        # Those who wait look again; an event that stays set would have them look without end.
        self._turned.set()
        self._turned = asyncio.Event()

    async def resign(self) -> None:
        """Lead no more, so that another may begin at once. What the office holds open stays open until `close`."""
        term = self._core.term if self.held else 0
        self._feed(Resigned())
        if self._asking is not None:
            # It could be carried out after the release, and hold the lease for nobody.
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if term:
            try:
                await self._store.leaders.release(self._cluster_id, self._candidate, term)
            except VmhaError as error:
                _log.info("lead runs out by itself", cluster_id=self._cluster_id, reason=error.reason)

    async def close(self) -> None:
        """Stop at once; a lease that is held runs out by itself."""
        self._feed(Resigned())
        self._closed = True
        self._answered.set()  # whoever waits in `start`
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._asking, self._serving) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._served is not None:
            self._served = None
            await self._office.end()
        metrics.LEADS.labels(self._cluster_id).set(0)

    # The core and its effects

    def _feed(self, event: Event) -> None:
        self._carry_out(self._core.event(event, self._clock.now()))

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self._core.tick(self._clock.now()))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Claim | Renew):
                self._request(effect)
            elif isinstance(effect, StartLeading):
                self._mandate = _Held(self, effect.term, effect.settled_at)
                metrics.LEADS.labels(self._cluster_id).set(1)
                _log.info("leads", cluster_id=self._cluster_id, term=effect.term)
                self._changed.set()
            else:
                metrics.LEADS.labels(self._cluster_id).set(0)
                _log.warning("leads no more", cluster_id=self._cluster_id, term=effect.term)
                self._changed.set()
                self._turn()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._core.deadline()
        if deadline is not None and not self._closed:
            delay = max(SHORTEST_TIMER_S, deadline - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    # Requests, one at a time

    def _request(self, effect: Claim | Renew) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking = asyncio.create_task(self._ask(effect), name=f"lease of {self._cluster_id}")

    async def _ask(self, effect: Claim | Renew) -> None:
        event: Event = RequestFailed(spread=self._dice.random())
        # Whatever passes from here on, in a queue or on the way, is the lease's.
        self._feed(RequestSent(at=self._clock.now()))
        try:
            answer = await self._send(effect)
        except Unavailable:
            self._store_away()
        except VmhaError as error:
            _log.info("lease refused", cluster_id=self._cluster_id, reason=error.reason)
        except Exception:
            _log.exception("lease failed", cluster_id=self._cluster_id)
        else:
            event = self._told(answer)
        self._asking = None
        self._feed(event)
        if self._mandate is None or not self._mandate.holds():
            self._answered.set()

    async def _send(self, effect: Claim | Renew) -> LeaseAnswer:
        leaders, cluster_id, candidate = self._store.leaders, self._cluster_id, self._candidate
        if isinstance(effect, Claim):
            lost_too = self.was_last or self._office.insists()
            return await leaders.claim(cluster_id, candidate, self._lease_s, above_term=effect.above_term, lost_too=lost_too)
        return await leaders.renew(cluster_id, candidate, self._lease_s, effect.term, self._office.view())

    def _told(self, answer: LeaseAnswer) -> Event:
        if answer.won:
            self._others = LeaderRecord(term=answer.term)
            return LeaseWon(term=answer.term)
        self._others = answer.leader
        return LeaseRefused(term=answer.term, ttl_s=answer.ttl_s, spread=self._dice.random())

    # The office, one change after the other

    async def _serve(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._core.standing is Standing.RESIGNED:
                continue
            if self._served is not None and not self._served.holds():
                self._served = None
                await self._end()
            if self._served is None and self._mandate is not None and self._mandate.holds():
                await self._begin(self._mandate)
            if self._served is None and self._core.standing is Standing.LOST:
                self._feed(LeadEnded())
            self._answered.set()

    async def _begin(self, mandate: _Held) -> None:
        try:
            await self._office.begin(mandate)
        except VmhaError as error:
            if isinstance(error, Unavailable):
                self._store_away()
            _log.warning("cannot lead", cluster_id=self._cluster_id, reason=error.reason, message=error.message)
            self._feed(LeadFailed())
        except Exception:
            _log.exception("cannot lead", cluster_id=self._cluster_id)
            self._feed(LeadFailed())
        else:
            self._served = mandate
            self._turn()

    async def _end(self) -> None:
        try:
            await self._office.end()
        except Exception:
            _log.exception("the end of a lead failed", cluster_id=self._cluster_id)
