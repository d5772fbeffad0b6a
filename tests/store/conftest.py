"""The store's tests run twice: on a redis-server in real time, and on the simulator's double in virtual time.

A test that needs the process, or real time, says so: `@pytest.mark.asyncio(loop_factories=["redis"])`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.support.redis import RedisDouble, RedisHome, RedisServer
from vmha.sim.clock import SimClock
from vmha.sim.redis_double import SimRedisServer
from vmha.sim.timeloop import VirtualLoop
from vmha.store import Store

Factory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Factory]:
    """Real time and virtual time."""
    return {"redis": asyncio.new_event_loop, "double": VirtualLoop}


@pytest.fixture
async def redis_home(redis_server: RedisServer) -> RedisHome:
    """An empty Redis, on the running loop's kind of time."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        return RedisDouble(SimRedisServer(SimClock(loop).wall))
    redis_server.start()
    client = redis_server.client()
    await client.flushall()
    await client.aclose()
    return redis_server


@pytest.fixture
async def store(redis_home: RedisHome) -> AsyncIterator[Store]:
    """An empty store."""
    store = redis_home.store()
    yield store
    await store.close()
