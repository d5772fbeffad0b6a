"""A runner's turn to plan for its cluster: two plans never give away the same room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from vmha.clock import Clock
from vmha.errors import Unavailable
from vmha.store import Store
from vmha.store.records import VmEntry

PLAN_LOCK_S, PLAN_LIMIT_S, PLAN_WAIT_S, PLAN_POLL_S = 8.0, 40.0, 60.0, 0.05
"""How long the turn outlives an evacuator that plans for a cluster, how long it may plan, how long another waits for it,
and how often that looks."""


class PlanTurn:
    """Taken within the process (`lock`) and among all evacuators (by the store).

    `stored` calls the store, again when it does not answer.
    """

    def __init__(
        self,
        store: Store,
        lock: asyncio.Lock,
        cluster_id: str,
        runner: str,
        clock: Clock,
        stored: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]],
    ) -> None:
        self._journal, self._lock, self._cluster_id, self._runner = store.evacuations, lock, cluster_id, runner
        self._clock, self._stored = clock, stored

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[list[VmEntry]]:
        """Held as long as the runner's lock lives, at most. Gives the entries of all evacuations under way.

        They are read before whatever the plan is made from: what is claimed between two reads is then seen twice, and never
        not at all.

        Raises:
            Unavailable: PLAN_LOCKED: another one plans for long, or this one did.
        """
        async with self._lock, self._alone():
            yield await self._stored(self._planned_anywhere)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        key = (self._cluster_id, self._runner)
        until = self._clock.now() + PLAN_WAIT_S
        while not await self._stored(lambda: self._journal.lock_plans(*key, PLAN_LOCK_S)):
            if self._clock.now() > until:
                raise Unavailable("PLAN_LOCKED", "another evacuator has been planning for long")
            await asyncio.sleep(PLAN_POLL_S)
        try:
            async with asyncio.timeout(PLAN_LOCK_S) as turn:
                keeper = asyncio.create_task(self._keep(key, turn), name=f"turn to plan for {self._cluster_id}")
                try:
                    yield
                finally:
                    keeper.cancel()
                    # It could be carried out after the release, and hold the turn for nobody.
                    await asyncio.gather(keeper, return_exceptions=True)
        except TimeoutError:
            raise Unavailable("PLAN_LOCKED", f"the plan took longer than {PLAN_LIMIT_S:g} s, or lost its turn") from None
        finally:
            with contextlib.suppress(Unavailable):  # it ends by itself
                await self._journal.unlock_plans(*key)

    async def _keep(self, key: tuple[str, str], turn: asyncio.Timeout) -> None:
        """Takes the turn again and again. While that fails the plan may go on as long as the store keeps it, and no longer."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + PLAN_LIMIT_S
        while True:
            await asyncio.sleep(PLAN_LOCK_S / 4)
            asked = loop.time()
            with contextlib.suppress(Unavailable):
                if await self._journal.lock_plans(*key, PLAN_LOCK_S) and not turn.expired():
                    turn.reschedule(min(limit, asked + PLAN_LOCK_S))

    async def _planned_anywhere(self) -> list[VmEntry]:
        unfinished = await self._journal.unfinished(self._cluster_id)
        found = await asyncio.gather(*(self._journal.entries(self._cluster_id, e.evacuation_id) for e in unfinished))
        return [entry for entries in found for entry in entries]
