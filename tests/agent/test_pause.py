"""Waiting for an event, but not for ever."""

from __future__ import annotations

import asyncio

from vmha.agent.pause import set_within
from vmha.sim.timeloop import VirtualLoop


def test_the_answer_says_who_ended_the_wait() -> None:
    """An event that is set in time is told from a span that ran out; neither leaves a timer behind that sets the event later."""
    loop = VirtualLoop()

    async def waits() -> list[tuple[bool, float]]:
        event, told = asyncio.Event(), []
        loop.call_later(1.0, event.set)
        for _ in range(2):
            event.clear()
            told.append((await set_within(event, 3.0), loop.time()))
        event.clear()
        waiting = asyncio.create_task(set_within(event, 3.0))
        await asyncio.sleep(1.0)
        waiting.cancel()
        await asyncio.sleep(10.0)
        told.append((event.is_set(), loop.time()))
        return told

    assert loop.run_until(waits()) == [(True, 1.0), (False, 4.0), (False, 15.0)]
    loop.shut_down()
