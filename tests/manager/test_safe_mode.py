"""Safe mode, with a real store: who is waited for, and that it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.failures import cluster_of
from vmha.manager.host_queues import LONGEST, HostQueues
from vmha.manager.memory import ClusterMemory
from vmha.manager.safe_mode import SafeMode
from vmha.store import Store

C = "c1"
MANY = 2 * LONGEST


class Alarms:
    """Takes alarms and keeps none."""

    def raise_alarm(self, reason: str, host_id: str, message: str, vm_id: str = "") -> None:
        """See AlarmSink."""

    def clear_alarm(self, reason: str, host_id: str, vm_id: str = "") -> None:
        """See AlarmSink."""


class Wide:
    """A cluster of many hosts whose store was lost."""

    def __init__(self, store: Store, memory: ClusterMemory) -> None:
        self.store, self.memory = store, memory
        self.queues = HostQueues("test", C, store_away=lambda: None)
        self.safe_mode = SafeMode(store, memory, self.queues, Alarms(), lost=lambda: None, changed=lambda: None)

    async def idle(self) -> None:
        async with asyncio.timeout(20):
            while self.queues.waiting:
                await asyncio.sleep(0.01)

    async def awaited(self) -> tuple[str, ...]:
        return (await self.store.clusters.get(C)).awaited


@pytest.fixture
async def wide(store: Store) -> AsyncIterator[Wide]:
    await cluster_of(store, C, [f"h{number:04}" for number in range(MANY)])
    made = Wide(store, ClusterMemory.of(await store.clusters.snapshot(C)))
    yield made
    await made.queues.close()


async def test_safe_mode_ends_however_many_report_at_once(wide: Wide) -> None:
    """All inventories may come in the same second: none of them is waited for any more."""
    wide.safe_mode.begin("lost", emptied=False)
    assert len(wide.memory.cluster.awaited) == MANY
    for host_id in wide.memory.hypervisors:
        wide.safe_mode.arrived(host_id)
    await wide.idle()

    assert await wide.awaited() == () and not wide.memory.cluster.safe_mode


async def test_who_reports_while_others_are_written_down_is_written_down_too(wide: Wide) -> None:
    """Reports of one moment share a write; the next moment's have their own."""
    wide.safe_mode.begin("lost", emptied=False)
    for host_id in wide.memory.hypervisors:
        wide.safe_mode.arrived(host_id)
        await asyncio.sleep(0)
    await wide.idle()

    assert await wide.awaited() == () and not wide.memory.cluster.safe_mode


async def test_an_agent_that_knows_more_is_never_overlooked(wide: Wide) -> None:
    """R20: also where hundreds of things wait for the store when its heartbeat comes."""

    async def told() -> None:
        await asyncio.sleep(0)

    wide.queues.put("", told, until_done=True)
    wide.safe_mode.seen(wide.memory.cluster.store_generation + 1000)
    for _ in range(2 * LONGEST):
        wide.queues.put("", told, until_done=True, tells=True)
    await wide.idle()

    assert len(await wide.awaited()) == MANY
