"""WatchEvents: bookmarks, resuming, and watchers that are too slow or too late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest

from tests.manager.world import CLUSTER, World, until
from tests.support.redis import RedisServer
from vmha.errors import Exhausted, OutOfRange, VmhaError
from vmha.manager.event_service import EventTails
from vmha.manager.event_tail import QUEUE, EventTail, Watcher
from vmha.rpc.errors import from_rpc_error
from vmha.store.records import EventRecord
from vmha.v1 import event_service_pb2 as es
from vmha.v1 import event_service_pb2_grpc as es_grpc


@contextlib.asynccontextmanager
async def watching(world: World, after_revision: int = 0) -> AsyncIterator[Any]:
    call = world.watch(after_revision)
    try:
        yield call
    finally:
        call.cancel()


async def take(call: Any, count: int) -> list[es.WatchEventsResponse]:
    """The next events; bookmarks between them are left out."""
    events: list[es.WatchEventsResponse] = []
    async with asyncio.timeout(10):
        while len(events) < count:
            message = await call.read()
            if message.WhichOneof("payload") == "event":
                events.append(message)
    return events


async def test_bookmark_at_once_then_history_then_live_events(world: World) -> None:
    """The first message is a bookmark; then all that is kept, in order and once, then what happens."""
    await world.create(["h1"], enable=False)
    async with watching(world) as call:
        first = await call.read()
        kept = await take(call, 2)
        await world.create(["h2"], enable=False)
        live = await take(call, 2)

    assert first.WhichOneof("payload") == "bookmark"
    assert [e.event.operator_act.act for e in kept] == ["CreateCluster", "CreateHost"]
    assert [e.event.operator_act.subject for e in live] == [CLUSTER, "c1/h1"] or live[-1].event.operator_act.act == "CreateHost"
    revisions = [e.revision for e in kept + live]
    assert revisions == sorted(set(revisions))


async def test_a_watcher_resumes_where_it_was(world: World) -> None:
    """after_revision gives exactly what came after it; -1 gives only what comes now."""
    await world.create(["h1", "h2"], enable=False)
    async with watching(world) as call:
        seen = await take(call, 3)
    async with watching(world, seen[0].revision) as call:
        resumed = await take(call, 2)
    async with watching(world, -1) as call:
        bookmark = await call.read()
        await world.create(["h3"], enable=False)
        new = await take(call, 1)

    assert [e.revision for e in resumed] == [e.revision for e in seen[1:]]
    assert bookmark.revision == seen[-1].revision
    assert new[0].revision == seen[-1].revision + 1


async def test_revision_that_is_not_kept(world: World) -> None:
    """OUT_OF_RANGE with the oldest revision that is kept."""
    await world.create(["h1"], enable=False)
    async with watching(world, 5) as call:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await take(call, 1)
    error = from_rpc_error(refused.value)

    assert isinstance(error, OutOfRange)
    assert error.reason == "REVISION_COMPACTED"
    assert int(error.metadata["oldest_revision"]) > 5


async def test_unknown_cluster(world: World) -> None:
    """NOT_FOUND, not an empty stream."""
    async with watching(world) as call:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await take(call, 1)

    assert from_rpc_error(refused.value).reason == "CLUSTER_UNKNOWN"


async def test_quiet_stream_gets_bookmarks(world: World) -> None:
    """A caller can tell a quiet stream from a dead one."""
    await world.create(["h1"], enable=False)
    tails = EventTails(world.store, bookmark_s=0.1)
    written: list[es.WatchEventsResponse] = []

    class Context:
        async def write(self, message: es.WatchEventsResponse) -> None:
            written.append(message)

    task = asyncio.create_task(tails.stream(CLUSTER, -1, Context()))  # type: ignore[arg-type]

    async def bookmarks() -> bool:
        return len(written) >= 3

    await until(bookmarks)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert {message.WhichOneof("payload") for message in written} == {"bookmark"}


async def test_watcher_that_does_not_keep_up_is_ended() -> None:
    """Its queue is bounded; the error names the revision to resume after."""
    watcher = Watcher(41)
    for revision in range(42, 42 + QUEUE + 1):
        watcher.put(EventRecord(revision=revision, time_s=1.0, kind="alarm", detail={}))

    with pytest.raises(Exhausted) as error:
        await watcher.take(1.0)

    assert (error.value.reason, error.value.metadata["revision"]) == ("WATCHER_TOO_SLOW", "41")


async def test_lost_log_ends_the_watch(world: World, redis_server: RedisServer) -> None:
    """After the store was lost a watcher must list again: it is told, and does not hang on an old revision."""
    await world.create(["h1", "h2"])
    async with watching(world) as call:
        await take(call, 3)
        redis_server.stop()
        redis_server.start()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await take(call, 100)

    assert from_rpc_error(ended.value).reason == "REVISION_COMPACTED"


async def test_many_watchers_share_one_reader(world: World) -> None:
    """Each gets every event once."""
    await world.create(["h1"], enable=False)
    stub = es_grpc.EventServiceStub(world.channel)
    calls = [stub.WatchEvents(es.WatchEventsRequest(cluster_id=CLUSTER, after_revision=0)) for _ in range(20)]
    try:
        seen = await asyncio.gather(*(take(call, 2) for call in calls))
    finally:
        for call in calls:
            call.cancel()

    assert len({tuple(e.revision for e in events) for events in seen}) == 1


class Log:
    """An event log that fails as a test says."""

    def __init__(self, *, wait: Exception | None = None, read: Exception | None = None) -> None:
        self.events = self
        self._wait, self._read = wait, read

    async def last_revision(self, cluster_id: str) -> int:
        """See `vmha.store.events`."""
        return 7

    async def wait(self, cluster_id: str, after_revision: int, timeout_s: float) -> bool:
        """See `vmha.store.events`."""
        if self._wait is not None:
            raise self._wait
        await asyncio.Event().wait()
        return True

    async def read(self, cluster_id: str, after_revision: int, limit: int = 100) -> list[EventRecord]:
        """See `vmha.store.events`."""
        if self._read is not None:
            raise self._read
        return []


def followers() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("events ")]


async def test_a_log_that_cannot_be_followed_ends_its_watches() -> None:
    """A fault of ours must not look like a quiet log for ever; who watches again gets a new reader."""
    tail = EventTail(cast(Any, Log(wait=KeyError("k"))), CLUSTER)
    for _ in range(2):
        with pytest.raises(VmhaError) as caught:
            async with tail.watch(-1) as watcher:
                await watcher.take(5.0)
        assert caught.value.reason == "INTERNAL_ERROR"
    assert followers() == []


async def test_a_watch_that_is_refused_leaves_no_reader_behind() -> None:
    """A reader without watchers would hold a connection to Redis for ever."""
    tail = EventTail(cast(Any, Log(read=OutOfRange("REVISION_COMPACTED", "gone"))), CLUSTER)
    with pytest.raises(OutOfRange):
        async with tail.watch(3):
            pass
    assert followers() == []
