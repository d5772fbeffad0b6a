"""Waiting for an event, but not for ever."""

from __future__ import annotations

import asyncio


async def set_within(event: asyncio.Event, span_s: float) -> bool:
    """Wait until the event is set, at most span_s; whether it was. Afterwards it is set in either case.

    For the clocks that run all the time: asyncio.timeout cancels its task and catches that, at several times the cost.
    """
    ended = False

    def end() -> None:
        nonlocal ended
        ended = not event.is_set()
        event.set()

    timer = asyncio.get_running_loop().call_later(span_s, end)
    try:
        await event.wait()
    finally:
        timer.cancel()
    return not ended
