"""The event log."""

from __future__ import annotations

import asyncio
import json

import pytest
from google.protobuf import json_format

from tests.store.ways import C, whole_way
from tests.support.redis import RedisHome
from vmha.errors import NotFound, OutOfRange
from vmha.model import ClusterConfig
from vmha.store import Store, keys
from vmha.store.scripts import Scripts
from vmha.v1 import event_service_pb2


async def test_revisions_count_up_by_one(store: Store) -> None:
    """Events come back in order, after a revision, in pages, with all they were given."""
    await store.clusters.create(C, ClusterConfig())
    revisions = [await store.events.append(C, "alarm", {"reason": f"R{i}"}, incident_id="i", actor="ann") for i in range(5)]

    assert revisions == list(range(revisions[0], revisions[0] + 5))
    assert await store.events.last_revision(C) == revisions[-1]
    events = await store.events.read(C, 0)
    assert [(e.revision, e.detail["reason"]) for e in events] == [(r, f"R{i}") for i, r in enumerate(revisions)]
    assert (events[0].incident_id, events[0].actor) == ("i", "ann")
    assert [e.revision for e in await store.events.read(C, revisions[1], limit=2)] == revisions[2:4]
    assert await store.events.read(C, revisions[-1]) == []


async def test_a_repeated_append_is_one_event(store: Store, redis_home: RedisHome) -> None:
    """The script with the same token answers the first revision."""
    await store.clusters.create(C, ClusterConfig())
    client = redis_home.client()
    scripts = Scripts(client)
    answers = [await scripts.run("event_append", C, "token", "alarm", "", "", json.dumps({})) for _ in range(3)]
    await client.aclose()

    assert len({str(answer) for answer in answers}) == 1
    assert len(await store.events.read(C, 0)) == 1


async def test_what_is_not_kept_is_said(store: Store, redis_home: RedisHome) -> None:
    """After a trim, after a loss of the store, and for a revision from the future: REVISION_COMPACTED with the oldest."""
    await store.clusters.create(C, ClusterConfig())
    revisions = [await store.events.append(C, "alarm", {}) for _ in range(4)]
    client = redis_home.client()
    await client.xtrim(keys.EVENTS(C), maxlen=2, approximate=False)
    await client.aclose()
    assert [e.revision for e in await store.events.read(C, revisions[1])] == revisions[2:]
    for after in (revisions[0], revisions[-1] + 1):
        with pytest.raises(OutOfRange) as caught:
            await store.events.read(C, after)
        assert (caught.value.reason, caught.value.metadata) == ("REVISION_COMPACTED", {"oldest_revision": str(revisions[2])})
    redis_home.restart_empty()
    await store.clusters.create(C, ClusterConfig())
    assert await store.events.append(C, "alarm", {}) > revisions[-1] + 1
    with pytest.raises(OutOfRange):
        await store.events.read(C, revisions[-1])


async def test_waiting_ends_with_an_event_or_the_time(store: Store) -> None:
    """wait is True as soon as there is one, False when the time is over."""
    await store.clusters.create(C, ClusterConfig())
    assert await store.events.last_revision(C) == 0
    assert await store.events.wait(C, 0, 0.15) is False
    waiting = asyncio.create_task(store.events.wait(C, 0, 5.0))
    await asyncio.sleep(0.05)
    await store.events.append(C, "alarm", {})

    assert await waiting is True


async def test_every_event_fits_the_contract(store: Store) -> None:
    """Details, those that scripts write included, parse as the contract's messages."""
    await whole_way(store)
    events = await store.events.read(C, 0)
    for event in events:
        parsed = json_format.ParseDict({event.kind: event.detail}, event_service_pb2.Event())
        assert parsed.WhichOneof("detail") == event.kind
    last, _, drain = [e for e in events if e.kind == "evacuation_state_change"][-3:]
    assert (last.detail["evacuation"]["kind"], drain.detail["evacuation"]["kind"]) == (  # type: ignore[index]
        "EVACUATION_KIND_EVACUATION",
        "EVACUATION_KIND_DRAIN",
    )
    shown = json_format.ParseDict({last.kind: last.detail}, event_service_pb2.Event()).evacuation_state_change.evacuation

    assert (shown.total_count, shown.moved_count, shown.host_id) == (1, 1, "h1")
    assert shown.end_time.ToSeconds() >= shown.proof_time.ToSeconds() >= shown.start_time.ToSeconds() > 0


async def test_a_cluster_that_is_not_there_has_no_log(store: Store) -> None:
    """CLUSTER_UNKNOWN, and no key is left behind."""
    with pytest.raises(NotFound):
        await store.events.append(C, "alarm", {})
    assert await store.events.read(C, 0) == []
