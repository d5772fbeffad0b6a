"""Notices that this process stood still, or that its clocks jumped: what it did not hear meanwhile proves nothing (R21)."""

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
        self._offset_s = clock.wall() - clock.now()
        self._listeners: list[Callable[[float], None]] = []
        self._task: asyncio.Task[None] | None = None

    def listen(self, listener: Callable[[float], None]) -> None:
        """Call `listener` with the lag or the jump in seconds, each time that it is above the limit."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[float], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    def start(self) -> None:
        """Begin to beat."""
        self._expected_s = self._clock.now() + BEAT_S
        self._offset_s = self._clock.wall() - self._clock.now()
        self._task = asyncio.create_task(self._beat(), name="loop lag")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Tell the listeners if the beat is overdue, or the two clocks have parted; they hear of one stall or jump once."""
        if self._task is None:
            return
        now = self._clock.now()
        lag_s, jump_s = now - self._expected_s, self._clock.wall() - now - self._offset_s
        if max(lag_s, abs(jump_s)) <= LIMIT_S:
            return
        self._expected_s, self._offset_s = now + BEAT_S, self._offset_s + jump_s
        _log.warning("the event loop stood still, or a clock jumped", lag_s=round(lag_s, 3), jump_s=round(jump_s, 3))
        for listener in list(self._listeners):
            listener(max(lag_s, abs(jump_s)))

    async def _beat(self) -> None:
        while True:
            self._expected_s = self._clock.now() + BEAT_S
            # Slowly slewed clocks part by less than the limit within one beat.
            self._offset_s = self._clock.wall() - self._clock.now()
            await asyncio.sleep(BEAT_S)
            metrics.LOOP_LAG_S.observe(max(0.0, self._clock.now() - self._expected_s))
            self.check()
