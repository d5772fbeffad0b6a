"""Notices that this process stood still: what it did not hear meanwhile proves nothing (safety.md R21)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from vmha.clock import Clock
from vmha.manager import metrics

BEAT_S: Final = 0.25
LIMIT_S: Final = 1.0

_log = structlog.get_logger("vmha.manager")


class LagGuard:
    """Beats on the event loop; whoever decides asks `check` first, because a late timer may come before the late beat."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expected_s = clock.now() + BEAT_S
        self._listeners: list[Callable[[float], None]] = []
        self._task: asyncio.Task[None] | None = None

    def listen(self, listener: Callable[[float], None]) -> None:
        """Call `listener` with the lag in seconds, each time that it is above the limit."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[float], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    def start(self) -> None:
        """Begin to beat."""
        self._expected_s = self._clock.now() + BEAT_S
        self._task = asyncio.create_task(self._beat(), name="loop lag")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Tell the listeners if the beat is overdue; they hear of one stall once."""
        lag_s = self._clock.now() - self._expected_s
        if lag_s > LIMIT_S and self._task is not None:
            self._expected_s = self._clock.now() + BEAT_S
            _log.warning("the event loop stood still", lag_s=round(lag_s, 3))
            for listener in list(self._listeners):
                listener(lag_s)

    async def _beat(self) -> None:
        while True:
            self._expected_s = self._clock.now() + BEAT_S
            await asyncio.sleep(BEAT_S)
            metrics.LOOP_LAG_S.observe(max(0.0, self._clock.now() - self._expected_s))
            self.check()
