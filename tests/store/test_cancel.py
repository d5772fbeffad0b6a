"""A cancelled call of the store ends as cancelled."""

from __future__ import annotations

import asyncio

from vmha.store import Store


async def test_no_cancel_is_swallowed(store: Store) -> None:
    """Cancelled at any moment, a call that had not ended raises CancelledError: redis-py alone loses one in ten (Python 3.11)."""
    await store.ping()
    swallowed = 0
    for moment in range(60):
        calls = [asyncio.create_task(store.clusters.list_ids()) for _ in range(5)]
        for _ in range(moment % 40):
            await asyncio.sleep(0)
        open_calls = [call for call in calls if not call.done()]
        for call in open_calls:
            call.cancel()
        ended = await asyncio.gather(*open_calls, return_exceptions=True)
        swallowed += sum(not isinstance(result, BaseException) for result in ended)
        await asyncio.gather(*calls, return_exceptions=True)

    assert swallowed == 0
