"""Does things one after the other for each host, and for different hosts at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from vmha.errors import Unavailable, VmhaError
from vmha.manager import metrics

LONGEST: Final = 256
"""Tasks that may wait for one host; beyond it the oldest that only tells something is dropped, or what a newer fact replaces."""
RETRY_S: Final = 0.5

Task = Callable[[], Awaitable[None]]
_log = structlog.get_logger("vmha.manager")


@dataclass(frozen=True, slots=True)
class _Waiting:
    task: Task
    until_done: bool
    fact: str
    tells: bool


class HostQueues:
    """A serial queue for each host.

    Args:
        cluster_id: Whose hosts these are.
        store_away: Told when a task met a Redis that does not answer.
        may_act: Asked before each task and each repeat; a task that may not be done any more is dropped.
    """

    def __init__(
        self, name: str, cluster_id: str, *, store_away: Callable[[], None], may_act: Callable[[], bool] = lambda: True
    ) -> None:
        self._name = name
        self._cluster_id = cluster_id
        self._may_act = may_act
        self._store_away = store_away
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._full: set[str] = set()
        self._workers: dict[str, asyncio.Task[None]] = {}

    @property
    def waiting(self) -> int:
        """How many tasks are not done yet."""
        return sum(len(waiting) for waiting in self._waiting.values())

    def put(self, host_id: str, task: Task, *, until_done: bool, fact: str = "", tells: bool = False) -> None:
        """Queue a task behind the earlier ones of its host.

        Args:
            until_done: Repeat it while Redis is away: the fact must be written. Else it is tried once, and handles that itself.
            fact: What it writes down, where a later task of that name makes it needless; empty: each one counts.
            tells: It only tells somebody, and may be dropped when too much waits. Nothing else ever is.
        """
        waiting = self._waiting.setdefault(host_id, deque())
        waiting.append(_Waiting(task, until_done, fact, tells))
        if len(waiting) > LONGEST:
            self._make_room(host_id, waiting)
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
                first = waiting[0]
                await self._do(host_id, first.task, first.until_done)
                if waiting and waiting[0] is first:
                    waiting.popleft()
        finally:
            # No await since the queue was found empty: whoever puts next starts a new worker.
            self._workers.pop(host_id, None)
            if not waiting:
                self._waiting.pop(host_id, None)
                self._full.discard(host_id)

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

    def _make_room(self, host_id: str, waiting: deque[_Waiting]) -> None:
        before = len(waiting)
        if not _drop_one_told(waiting):
            _drop_replaced(waiting)
        if len(waiting) == before:
            return
        metrics.DROPPED.labels(self._cluster_id, "task").inc(before - len(waiting))
        if host_id not in self._full:
            self._full.add(host_id)
            _log.error("too much waits for the store; what is only told is dropped", cluster_id=self._cluster_id, host_id=host_id)


def _drop_one_told(waiting: deque[_Waiting]) -> bool:
    """Drops the oldest that only tells something; the first of all is under way."""
    for place in range(1, len(waiting)):
        if waiting[place].tells:
            del waiting[place]
            return True
    return False


def _drop_replaced(waiting: deque[_Waiting]) -> None:
    """Drops each fact behind which a newer one of its name waits."""
    newest = {item.fact: item for item in waiting}
    first, *others = waiting
    kept = [item for item in others if not item.fact or newest[item.fact] is item]
    waiting.clear()
    waiting.extend([first, *kept])
