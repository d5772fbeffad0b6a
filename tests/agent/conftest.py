"""An agent's parts on doubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.agent_state import open_state, register, unmoved
from tests.support.hypervisor import MemoryHypervisor
from tests.support.storage import unshared
from tests.support.waiting import until
from vmha.agent.guests import Guests
from vmha.agent.keeper import Keeper
from vmha.agent.metrics import Metrics
from vmha.agent.state import State
from vmha.clock import SystemClock

VM1 = "11111111-1111-4111-8111-111111111111"
VM2 = "22222222-2222-4222-8222-222222222222"
VM3 = "33333333-3333-4333-8333-333333333333"


@pytest.fixture
def hypervisor() -> MemoryHypervisor:
    """An empty libvirt."""
    return MemoryHypervisor()


@pytest.fixture
def state(tmp_path: Path) -> State:
    """A state of a fresh boot."""
    return open_state(tmp_path / "state")


@pytest.fixture
def keeper(state: State) -> Keeper:
    """Of h1, which is registered as 17 and holds a lease."""
    register(state, 17)
    return Keeper(state, SystemClock(), Metrics(SystemClock()))


@pytest.fixture
async def guests(hypervisor: MemoryHypervisor) -> AsyncIterator[Guests]:
    """A table of guests that is kept, and was read once."""
    clock = SystemClock()
    guests = Guests(hypervisor, unshared(), unmoved(), clock, Metrics(clock))
    async with running(guests.run()):
        await until(lambda: guests.table is not None)
        yield guests


@asynccontextmanager
async def running(job: object) -> AsyncIterator[None]:
    """Run a coroutine beside the test; its failure is the test's."""
    assert asyncio.iscoroutine(job)
    task = asyncio.create_task(job)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
