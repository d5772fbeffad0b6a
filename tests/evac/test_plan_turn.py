"""Turns to plan: one evacuator at a time plans for a cluster, for as long as it needs, and never without its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vmha.clock import SystemClock
from vmha.errors import Unavailable
from vmha.evac import plan_turn
from vmha.evac.plan_turn import PlanTurn
from vmha.store import Store

LOCK_S = 0.4


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_turn, "PLAN_LOCK_S", LOCK_S)
    monkeypatch.setattr(plan_turn, "PLAN_LIMIT_S", 5 * LOCK_S)


def turn_of(store: Store, runner: str) -> PlanTurn:
    async def stored(call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()

    return PlanTurn(store, asyncio.Lock(), "c", runner, SystemClock(), stored)


async def test_a_slow_plan_keeps_its_turn(store: Store) -> None:
    """It takes three times as long as the turn outlives its evacuator, and nobody else plans meanwhile."""
    async with turn_of(store, "slow").taken():
        for _ in range(12):
            await asyncio.sleep(LOCK_S / 4)
            assert not await store.evacuations.lock_plans("c", "other", LOCK_S)
    assert await store.evacuations.lock_plans("c", "other", LOCK_S)


async def test_a_plan_that_has_lost_its_turn_is_given_up(store: Store) -> None:
    """The store was emptied, and another one plans: two plans would give away the same room."""
    with pytest.raises(Unavailable) as caught:
        async with turn_of(store, "first").taken():
            await store.evacuations.unlock_plans("c", "first")
            for _ in range(40):
                assert await store.evacuations.lock_plans("c", "other", 60.0)
                await asyncio.sleep(LOCK_S / 4)
            pytest.fail("it went on without its turn")

    assert caught.value.reason == "PLAN_LOCKED"


async def test_a_plan_that_does_not_end_is_given_up(store: Store) -> None:
    """However well it keeps its turn."""
    with pytest.raises(Unavailable) as caught:
        async with turn_of(store, "stuck").taken():
            await asyncio.sleep(20 * LOCK_S)

    assert caught.value.reason == "PLAN_LOCKED"
    assert await store.evacuations.lock_plans("c", "other", LOCK_S)
