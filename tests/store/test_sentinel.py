"""A real primary, a real replica and real Sentinels: a failover in the middle of writes, and what it may lose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.failures import cluster_of
from tests.support.sentinel import DOWN_AFTER_MS, Plant
from vmha.errors import Unavailable
from vmha.store import Store, connect
from vmha.store.leaders import Candidate

pytestmark = pytest.mark.asyncio(loop_factories=["redis"])
RECOVERS_WITHIN_S = 15.0
"""Sentinel finds the primary down, agrees, promotes; the client asks anew."""


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    try:
        plant.start()
        yield plant
    finally:
        plant.stop()


@pytest.fixture
async def redundant(plant: Plant) -> AsyncIterator[Store]:
    store = connect(plant.url)
    yield store
    await store.close()


async def _write_until(store: Store, seconds: float) -> tuple[int, float]:
    """Appends events until one succeeds after a failure: how many were acknowledged, and the longest time without one."""
    acknowledged, last, longest = 0, time.monotonic(), 0.0
    failed = False
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            await store.events.append("c1", "alarm", {"reason": "FLAPPING"})
        except Unavailable:
            failed = True
        else:
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            acknowledged += 1
            if failed:
                break
        await asyncio.sleep(0.01)
    return acknowledged, longest


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_a_failover_during_writes(plant: Plant, redundant: Store, how: str) -> None:
    """The primary dies, or stands still, in the middle of writes: UNAVAILABLE for a bounded time, then the replica answers."""
    await cluster_of(redundant, "c1", ["h1", "h2"])
    writing = asyncio.create_task(_write_until(redundant, RECOVERS_WITHIN_S))
    await asyncio.sleep(0.3)
    if how == "killed":
        plant.kill("primary")
    else:
        os.kill(plant.processes["primary"].pid, signal.SIGSTOP)
    acknowledged, longest = await writing

    assert acknowledged > 10
    assert DOWN_AFTER_MS / 1000 * 0.5 < longest < RECOVERS_WITHIN_S
    assert sorted(h.host_id for h in await redundant.hosts.list("c1")) == ["h1", "h2"]


async def test_a_primary_that_goes_on_alone_is_told(plant: Plant, redundant: Store) -> None:
    """Without min-replicas-to-write a cut-off primary takes writes beside its successor."""
    before = await redundant.may_split()
    with plant.client("primary") as primary:
        primary.config_set("min-replicas-to-write", 1)
        primary.config_set("min-replicas-max-lag", 3)

    assert (before, await redundant.may_split()) == (True, False)


async def test_a_leader_whose_claim_a_failover_lost(plant: Plant, redundant: Store) -> None:
    """A write that was acknowledged and not copied is gone; the next term is above the lost one all the same."""
    await cluster_of(redundant, "c1", ["h1"])
    os.kill(plant.processes["replica"].pid, signal.SIGSTOP)
    with plant.client("primary") as primary:
        # It goes on alone: what it takes in from here on is lost with it.
        primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
    first, second = (Candidate(holder=f"run-{i}", manager_id=f"m{i}", address=f"10.0.0.{i}:1") for i in (1, 2))
    lost = await redundant.leaders.claim("c1", first, 60.0)
    plant.kill("primary")
    os.kill(plant.processes["replica"].pid, signal.SIGCONT)
    async with asyncio.timeout(2 * RECOVERS_WITHIN_S):
        while True:
            with contextlib.suppress(Unavailable):
                won = await redundant.leaders.claim("c1", second, 60.0)
                break
            await asyncio.sleep(0.05)

    assert lost.won
    assert won.won, "the copy knows nothing of the first claim"
    assert won.term > lost.term
    assert not (await redundant.leaders.renew("c1", first, 60.0, lost.term)).won
