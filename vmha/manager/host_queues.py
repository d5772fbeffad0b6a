"""Does things one after the other for each host, and for different hosts at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from vmha.errors import Unavailable, VmhaError

LONGEST: Final = 256
"""Tasks that may wait for one host; beyond it the oldest that only tells something is dropped."""
RETRY_S: Final = 0.5

Task = Callable[[], Awaitable[None]]
_log = structlog.get_logger("vmha.manager")


class HostQueues:
    """A serial queue for each host.

    Args:
        store_away: Told when a task met a Redis that does not answer.
        may_act: Asked before each task and each repeat; a task that may not be done any more is dropped.
    """

    def __init__(self, name: str, *, store_away: Callable[[], None], may_act: Callable[[], bool] = lambda: True) -> None:
        self._name = name
        self._may_act = may_act
        self._store_away = store_away
        self._waiting: dict[str, deque[tuple[Task, bool]]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}

    def put(self, host_id: str, task: Task, *, until_done: bool) -> None:
        """Queue a task behind the earlier ones of its host.

        Args:
            until_done: Repeat it while Redis is away: the fact must be written. Else it is tried once, and handles that itself.
        """
        waiting = self._waiting.setdefault(host_id, deque())
        if len(waiting) >= LONGEST:
            _drop_oldest(host_id, waiting)
        waiting.append((task, until_done))
        if host_id not in self._workers:
            self._workers[host_id] = asyncio.create_task(self._work(host_id), name=f"{self._name} {host_id}")

    async def close(self) -> None:
        """Stop; what waits is dropped."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._waiting.clear()

    async def _work(self, host_id: str) -> None:
        waiting = self._waiting[host_id]
        try:
            while waiting:
                task, until_done = waiting[0]
                await self._do(host_id, task, until_done)
                if waiting and waiting[0][0] is task:
                    waiting.popleft()
        finally:
            # No await since the queue was found empty: whoever puts next starts a new worker.
            self._workers.pop(host_id, None)
            if not waiting:
                self._waiting.pop(host_id, None)

    async def _do(self, host_id: str, task: Task, until_done: bool) -> None:
        while self._may_act():
            try:
                await task()
                return
            except Unavailable:
                self._store_away()
                if not until_done:
                    return
                await asyncio.sleep(RETRY_S)
            except VmhaError as error:
                _log.warning("store refused", host_id=host_id, reason=error.reason, message=error.message)
                return
            except Exception:
                _log.exception("task failed", host_id=host_id)
                return


def _drop_oldest(host_id: str, waiting: deque[tuple[Task, bool]]) -> None:
    """Makes room; the first is under way, and those that are tried once have somebody who waits for their answer."""
    for place in range(1, len(waiting)):
        if waiting[place][1]:
            _log.error("too much waits for the store; the oldest is dropped", host_id=host_id)
            del waiting[place]
            return
