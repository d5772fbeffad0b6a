"""Whether Redis answers: one line for each change, and whoever needs to know is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from vmha.errors import Unavailable, VmhaError
from vmha.manager import metrics
from vmha.store import Store

PING_S: Final = 0.5
"""How often a Redis that is away is asked."""

_log = structlog.get_logger("vmha.manager")


class StoreWatch:
    """Knows whether the store is there.

    Args:
        back: Awaited when it answers again, before anybody is told: compares what it holds with what was remembered. When it
            raises Unavailable the store counts as away still.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: list[Callable[[bool], None]] = []
        self._task: asyncio.Task[None] | None = None
        self.reachable = True
        self.back: Callable[[], Awaitable[None]] | None = None

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Call `listener` at each change."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[bool], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    def away(self) -> None:
        """A call was not answered."""
        metrics.STORE_ERRORS.inc()
        if not self.reachable:
            return
        self._set(False)
        _log.error("store does not answer; nothing is decided until it does")
        self._task = asyncio.create_task(self._wait(), name="store watch")

    async def connect(self, *, interval_s: float = 1.0) -> None:
        """Returns when Redis answers for the first time and keeps what it is given.

        Raises:
            PreconditionFailed: STORE_EVICTS.
        """
        while True:
            try:
                await self._store.check_policy()
                split = await self._store.may_split()
            except Unavailable:
                if self.reachable:
                    self._set(False)
                    _log.error("store does not answer; the manager waits for it")
                await asyncio.sleep(interval_s)
            else:
                if not self.reachable:
                    _log.info("store answers")
                if split:
                    _log.warning("store may split: set min-replicas-to-write and min-replicas-max-lag", reason="STORE_MAY_SPLIT")
                self._set(True)
                return

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _wait(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            try:
                await self._store.check_policy()
                if self.back is not None:
                    await self.back()
            except Unavailable:
                metrics.STORE_ERRORS.inc()
                continue
            except VmhaError as error:
                _log.error("store is not usable", reason=error.reason, message=error.message)
                continue
            except Exception:
                _log.exception("store cannot be compared with what is remembered")
                continue
            _log.info("store answers again")
            self._set(True)
            return

    def _set(self, reachable: bool) -> None:
        self.reachable = reachable
        metrics.STORE_UP.set(reachable)
        for listener in list(self._listeners):
            listener(reachable)
