"""Holds the host's lease: tells it every event with the time at which it is processed, and carries out what it wants.

Whoever is about to process anything - a message, a call, a timer - looks first (`look`): an expired guard is noticed before what
came too late can be taken in (R3). What the lease wants kept is written before anything that follows from it leaves (R8, R9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from vmha.agent import lapse
from vmha.agent.lease import Lease
from vmha.agent.lease_events import AskPeers, Condemned, DestroyAll, Effect, Event, Keep, Kept, Unregistered
from vmha.agent.metrics import Metrics
from vmha.agent.pause import set_within
from vmha.agent.state import State
from vmha.clock import Clock
from vmha.errors import PreconditionFailed, Unavailable

LONGEST_SLEEP_S: Final = 10.0
"""The loop's clock stands still while the machine sleeps, CLOCK_BOOTTIME does not."""
SHORTEST_SLEEP_S: Final = 0.001

_log = structlog.get_logger("vmha.agent")


def _nobody(*_: object) -> None:
    """Nobody was told to listen yet."""


class Keeper:
    """The only holder of the lease core.

    Attributes:
        lease: For questions; events go through `tell`.
        ask_peers: Called with the hosts to ask, when peers are to be asked.
        destroy_all: Called with the reason, when every VM is to be destroyed.
        listeners: Called when the guard latched, and when its VMs are gone.
    """

    def __init__(self, state: State, clock: Clock, metrics: Metrics, *, may_lapse: bool = True) -> None:
        """Go on with what is on record.

        Args:
            may_lapse: No watchdog does the agent's work while there is no agent (`vmha.agent.lapse`).
        """
        self._state = state
        self._clock = clock
        self._unwritten = False
        now, kept = clock.now(), state.kept
        if state.lapsed_until or (may_lapse and lapse.is_lapsed(kept, now)):
            kept = self._begin_lapsed(kept, now)
        self.lease = Lease(state.host_id, state.cluster_id, kept, now)
        self._unmarked = False
        self._wake = asyncio.Event()
        self._sleeps_until = 0.0
        self._seen = (self.lease.latched, self.lease.may_register)
        self.ask_peers: Callable[[tuple[str, ...]], None] = _nobody
        self.destroy_all: Callable[[str], None] = _nobody
        self.listeners: list[Callable[[], None]] = []
        metrics.watch_lease(self.lease, clock)

    # What others may ask

    @property
    def is_lapsed(self) -> bool:
        """Whether the guard ended while no agent ran, and no manager has said yet whose the VMs are."""
        return bool(self._state.lapsed_until) and not self.lease.latched

    @property
    def self_fencing(self) -> bool:
        """What is announced: this host destroys its VMs when its guard ends, even if its record is lost (R9)."""
        return self.lease.enforced and self._state.marked

    @property
    def is_written(self) -> bool:
        """Whether the record holds what the lease knows; writes it if it does not. Nothing may be sent before (R8)."""
        if self._unwritten:
            self._keep(self._state.kept)
        return not self._unwritten

    def check_may_start(self) -> None:
        """For whoever is about to let a VM execute.

        Raises:
            PreconditionFailed: LEASE_EXPIRED, the lease does not hold under this registration (R12).
        """
        self.look()
        if not self.lease.may_start(self._clock.now()) or not self.is_written:
            raise PreconditionFailed("LEASE_EXPIRED", "this host's lease does not hold", {"guard": str(self._guard())})

    def _guard(self) -> str:
        return self.lease.state(self._clock.now())

    # What happens

    def look(self) -> None:
        """Before anything is processed (R3)."""
        if self.is_lapsed and self._clock.now() >= self._state.lapsed_until:
            self.condemn("the guard ended while no agent ran, and no manager said that the VMs are this host's")
        self._perform(self.lease.tick(self._clock.now()))

    def condemn(self, reason: str) -> None:
        """The VMs that run here may not: destroy them."""
        self.tell(Condemned(reason=reason))
        self._settle_lapse()
        self._perform(self.lease.tick(self._clock.now()))

    def spare(self) -> None:
        """A manager said that the registration is in force, so that nobody took the VMs over. It is over nevertheless (R3)."""
        _log.warning("lapsed_guard_forgiven", incarnation=self.lease.incarnation)
        self.tell(Unregistered())
        self._settle_lapse()

    def tell(self, event: Event) -> None:
        """Something happened now."""
        self._perform(self.lease.event(event, self._clock.now()))

    async def run(self) -> None:
        """Keep the lease's deadlines until cancelled."""
        while True:
            self.look()
            due, now = self._due(), self._clock.now()
            pause = LONGEST_SLEEP_S if due is None else min(LONGEST_SLEEP_S, max(SHORTEST_SLEEP_S, due - now))
            self._sleeps_until = now + pause
            self._wake.clear()
            await set_within(self._wake, pause)

    def _due(self) -> float | None:
        due = self.lease.deadline()
        if self.is_lapsed:
            return self._state.lapsed_until if due is None else min(due, self._state.lapsed_until)
        return due

    def _begin_lapsed(self, kept: Kept, now: float) -> Kept:
        until = self._state.lapsed_until or lapse.until(kept, now)
        _log.warning("guard_ended_without_an_agent", incarnation=kept.incarnation, waits_s=round(until - now, 3))
        try:
            self._state.lapse(until)
        except Unavailable as error:
            _log.error("lapse_not_written", error=error.message)  # the next process would count anew, from then
        return lapse.without_guard(kept)

    def _settle_lapse(self) -> None:
        try:
            self._state.lapse(0.0)
        except Unavailable as error:
            _log.error("lapse_not_written", error=error.message)  # the next process would destroy what may run

    # Doing it

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Keep(kept=kept):
                    self._keep(kept)
                case AskPeers(hosts=hosts):
                    self.ask_peers(hosts)
                case DestroyAll(reason=reason):
                    self.destroy_all(reason)
        due = self._due()
        if due is not None and due < self._sleeps_until:
            self._wake.set()
        seen = (self.lease.latched, self.lease.may_register)
        if seen != self._seen:
            self._seen = seen
            for listener in list(self.listeners):
                listener()

    def _keep(self, kept: Kept) -> None:
        try:
            self._state.keep(kept)
        except Unavailable as error:
            if not self._unwritten:
                _log.error("lease_not_written", error=error.message)
            self._unwritten = True
            return
        self._unwritten = False
        self._mark()

    def _mark(self) -> None:
        config = self.lease.config
        if config is None or (config.enforced and not self.lease.enforced):
            return  # nothing was promised yet; an older promise stands
        try:
            self._state.mark(config.enforced)
        except Unavailable as error:
            if not self._unmarked:
                _log.error("marker_not_written", error=error.message)
            self._unmarked = True
            return
        self._unmarked = False
