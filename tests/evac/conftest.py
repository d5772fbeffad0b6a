"""Fixtures of the evacuator's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.evac.world import World, world_of_fakes
from vmha.store import Store


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    """An empty cluster with hypervisors in memory."""
    async with world_of_fakes(store) as world:
        yield world
