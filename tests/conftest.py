"""Fixtures for all tests: a real Redis of their own."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio

from tests.support.redis import RedisServer
from vmha.store import Store, connect

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs us in the background ignores Ctrl-C for all that we start; the tests of Ctrl-C need it as it is.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server of this test session; a test that stops it starts it again."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    """An empty store."""
    redis_server.start()
    client = redis.asyncio.Redis.from_url(redis_server.url)
    await client.flushall()
    await client.aclose()
    store = connect(redis_server.url)
    yield store
    await store.close()
