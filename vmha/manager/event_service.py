"""EventService: what happened, as it happens."""

from __future__ import annotations

from typing import Any, Final

import grpc

from vmha.errors import Unavailable
from vmha.manager import metrics
from vmha.manager.event_tail import EventTail, Watcher
from vmha.messages import event_to_proto
from vmha.rpc import validate
from vmha.store import Store
from vmha.store.records import EventRecord
from vmha.v1 import event_service_pb2 as es
from vmha.v1 import event_service_pb2_grpc as es_grpc

BOOKMARK_S: Final = 30.0

Context = grpc.aio.ServicerContext[Any, Any]


class EventTails:
    """The tails of all clusters, made when they are first watched."""

    def __init__(self, store: Store, *, bookmark_s: float = BOOKMARK_S) -> None:
        self._store = store
        self._bookmark_s = bookmark_s
        self._tails: dict[str, EventTail] = {}
        self._draining = False

    def drain(self) -> None:
        """Ends all watches: this replica is going away."""
        self._draining = True
        for tail in self._tails.values():
            tail.end(_draining())

    async def stream(self, cluster_id: str, after_revision: int, context: Context) -> None:
        """Writes events and bookmarks until the caller goes away or the watch is ended."""
        if self._draining:
            raise _draining()
        tail = self._tails.setdefault(cluster_id, EventTail(self._store, cluster_id))
        with metrics.WATCHERS.labels(cluster_id).track_inprogress():
            async with tail.watch(after_revision) as watcher:
                await context.write(_bookmark(watcher))
                async for event in tail.history(watcher):
                    await context.write(_message(event, cluster_id))
                while True:
                    event_or_none = await watcher.take(self._bookmark_s)
                    message = _bookmark(watcher) if event_or_none is None else _message(event_or_none, cluster_id)
                    await context.write(message)


class EventService(es_grpc.EventServiceServicer):
    """The service."""

    def __init__(self, store: Store, tails: EventTails) -> None:
        self._store = store
        self._tails = tails

    # The stubs know generators only; with context.write a watcher that does not read is noticed.
    async def WatchEvents(  # type: ignore[override]  # noqa: N802
        self, request: es.WatchEventsRequest, context: Context
    ) -> None:
        """See the contract."""
        validate.watch_events(request)
        await self._store.clusters.get(request.cluster_id)
        await self._tails.stream(request.cluster_id, request.after_revision, context)


def _draining() -> Unavailable:
    return Unavailable("DRAINING", "This replica is going away; watch at another.")


def _bookmark(watcher: Watcher) -> es.WatchEventsResponse:
    return es.WatchEventsResponse(revision=max(watcher.revision, 0), bookmark=es.Bookmark())


def _message(event: EventRecord, cluster_id: str) -> es.WatchEventsResponse:
    return es.WatchEventsResponse(revision=event.revision, event=event_to_proto(event, cluster_id))
