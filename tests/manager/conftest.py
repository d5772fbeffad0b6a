"""Fixtures for the manager's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.manager.world import World
from tests.support.redis import RedisServer
from vmha.store import Store


@pytest.fixture
async def world(redis_server: RedisServer, store: Store) -> AsyncIterator[World]:
    """A running manager with nothing in its store."""
    world = World(redis_server.url, store)
    await world.start()
    yield world
    await world.close()
