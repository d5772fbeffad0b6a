"""One reader of a cluster's event log, many watchers: each has a bounded queue, and one that does not keep up is ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

import structlog

from vmha.errors import Exhausted, OutOfRange, Unavailable, VmhaError
from vmha.store import Store
from vmha.store.records import EventRecord

QUEUE: Final = 1000
"""Events that may wait for one watcher."""
WAIT_S: Final = 5.0
RETRY_S: Final = 0.5
_log = structlog.get_logger("vmha.manager")


class Watcher:
    """One watcher's queue. `revision` is the last event that was handed out."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._waiting: deque[EventRecord] = deque()
        self._error: VmhaError | None = None
        self._wake = asyncio.Event()

    def put(self, event: EventRecord) -> None:
        """Queue an event; when the queue is full the watcher is ended instead."""
        if len(self._waiting) >= QUEUE:
            message = f"more than {QUEUE} events wait for this watcher; watch again after revision {self.revision}"
            self.end(Exhausted("WATCHER_TOO_SLOW", message, {"revision": str(self.revision)}))
        elif self._error is None:
            self._waiting.append(event)
            self._wake.set()

    def end(self, error: VmhaError) -> None:
        """Ends the watch with an error; what still waits is dropped, the watcher can resume."""
        if self._error is None:
            self._error = error
            self._waiting.clear()
            self._wake.set()

    async def take(self, timeout_s: float) -> EventRecord | None:
        """The next event; None when none came for timeout_s.

        Raises:
            VmhaError: The watch was ended.
        """
        while True:
            if self._error is not None:
                raise self._error
            while self._waiting:
                event = self._waiting.popleft()
                if event.revision > self.revision:
                    self.revision = event.revision
                    return event
            self._wake.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return None


class EventTail:
    """Follows one cluster's log while somebody watches."""

    def __init__(self, store: Store, cluster_id: str) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._position = 0

    @contextlib.asynccontextmanager
    async def watch(self, after_revision: int) -> AsyncIterator[Watcher]:
        """A watcher after a revision (0: all that are kept, -1: from now on), caught up with what is kept.

        Raises:
            OutOfRange: REVISION_COMPACTED.
            Unavailable: STORE_UNAVAILABLE.
        """
        if after_revision > 0:
            await self._store.events.read(self._cluster_id, after_revision, limit=1)
        await self._start()
        watcher = Watcher(self._position if after_revision < 0 else after_revision)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                await self._stop()

    async def history(self, watcher: Watcher) -> AsyncIterator[EventRecord]:
        """What is kept after the watcher's revision and before the tail, page by page."""
        while watcher.revision < self._position:
            page = await self._store.events.read(self._cluster_id, watcher.revision)
            if not page:
                return
            for event in page:
                watcher.revision = event.revision
                yield event

    def end(self, error: VmhaError) -> None:
        """Ends all watches."""
        for watcher in self._watchers:
            watcher.end(error)

    async def _start(self) -> None:
        if self._task is None or self._task.done():
            self._position = await self._store.events.last_revision(self._cluster_id)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._follow(), name=f"events {self._cluster_id}")

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self._step()
            except Unavailable:
                # A quiet log and a store that is away look the same to a watcher: bookmarks go on.
                await asyncio.sleep(RETRY_S)
            except Exception:
                # Bookmarks must not go on for ever with nobody reading: whoever watches again begins anew.
                _log.exception("event log cannot be followed", cluster_id=self._cluster_id)
                self.end(VmhaError("INTERNAL_ERROR", "internal error; the server's log has the details"))
                return

    async def _step(self) -> None:
        if not await self._store.events.wait(self._cluster_id, self._position, WAIT_S):
            await self._notice_loss()
            return
        try:
            page = await self._store.events.read(self._cluster_id, self._position)
        except OutOfRange as error:
            _log.warning("event log was lost or compacted", cluster_id=self._cluster_id, position=self._position)
            self.end(error)
            self._position = await self._store.events.last_revision(self._cluster_id)
            return
        for event in page:
            self._position = event.revision
            for watcher in self._watchers:
                watcher.put(event)

    async def _notice_loss(self) -> None:
        last = await self._store.events.last_revision(self._cluster_id)
        if last < self._position:
            message = "The event log was lost; list, then watch again."
            self.end(OutOfRange("REVISION_COMPACTED", message, {"oldest_revision": "0"}))
            self._position = last
