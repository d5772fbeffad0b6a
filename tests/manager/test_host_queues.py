"""What waits for the store: in order for each host, bounded, and nothing is lost that must be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from vmha.errors import Unavailable
from vmha.manager import metrics
from vmha.manager.host_queues import LONGEST, HostQueues


class Slow:
    """Queues whose first task of each host waits for the test."""

    def __init__(self) -> None:
        self.queues = HostQueues("test", "c1", store_away=lambda: None)
        self.done: list[str] = []
        self.answers = asyncio.Event()

    def put(self, name: str, *, host_id: str = "h1", until_done: bool = True, fact: str = "", tells: bool = False) -> None:
        async def task() -> None:
            await self.answers.wait()
            self.done.append(name)

        self.queues.put(host_id, task, until_done=until_done, fact=fact, tells=tells)

    async def finish(self) -> list[str]:
        self.answers.set()
        async with asyncio.timeout(5):
            while self.queues.waiting:
                await asyncio.sleep(0)
        return self.done


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    made = Slow()
    yield made
    await made.queues.close()


async def test_what_must_be_written_is_never_dropped(slow: Slow) -> None:
    """However much that only tells something comes behind it."""
    slow.put("under way")
    slow.put("configuration")
    slow.put("asked", until_done=False)
    for number in range(3 * LONGEST):
        slow.put(f"told {number}", tells=True)

    done = await slow.finish()
    assert done[:3] == ["under way", "configuration", "asked"]
    assert done[3:] == [f"told {number}" for number in range(2 * LONGEST + 3, 3 * LONGEST)]


async def test_of_one_fact_only_the_newest_is_written_when_too_much_waits(slow: Slow) -> None:
    """The state that a host had before its present one; other facts stay, and in their order."""
    slow.put("under way", fact="state")
    slow.put("agent", fact="agent")
    for number in range(3 * LONGEST):
        slow.put(f"state {number}", fact="state")
        if number == LONGEST:
            slow.put("closed")

    done = await slow.finish()
    assert done[:2] == ["under way", "agent"] and done[-1] == f"state {3 * LONGEST - 1}"
    assert "closed" in done and len(done) <= LONGEST


async def test_facts_that_all_count_are_kept_however_many(slow: Slow) -> None:
    """Where nothing may go, nothing goes."""
    for number in range(LONGEST + 10):
        slow.put(str(number))

    assert len(await slow.finish()) == LONGEST + 10


async def test_what_is_dropped_is_counted_and_said_once(slow: Slow) -> None:
    """One line for each time that a host's queue is full, not one for each fact; and the metric has the number."""
    before = metrics.DROPPED.labels("c1", "task")._value.get()
    with capture_logs() as logs:
        for number in range(LONGEST + 20):
            slow.put(str(number), tells=True)
    assert [line["event"] for line in logs] == ["too much waits for the store; what is only told is dropped"]
    assert metrics.DROPPED.labels("c1", "task")._value.get() == before + 20

    await slow.finish()
    slow.answers.clear()
    with capture_logs() as logs:
        for number in range(LONGEST + 20):
            slow.put(str(number), tells=True)
    assert len(logs) == 1


async def test_a_fact_is_repeated_until_the_store_answers() -> None:
    """What is tried once is not."""
    away, tries = [], []
    queues = HostQueues("test", "c1", store_away=lambda: away.append(1))

    async def fails_once() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("STORE_UNAVAILABLE", "")

    queues.put("h1", fails_once, until_done=True)
    async with asyncio.timeout(5):
        while queues.waiting:
            await asyncio.sleep(0.01)
    assert (len(tries), len(away)) == (2, 1)
    await queues.close()
