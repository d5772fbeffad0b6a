"""Waiting for facts instead of for time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(fact: Callable[[], object], within_s: float = 5.0) -> None:
    """Return as soon as the fact is true.

    Raises:
        TimeoutError: It did not become true within `within_s`.
    """
    async with asyncio.timeout(within_s):
        while not fact():
            await asyncio.sleep(0.005)
