"""Threads of one host: bounded, replaced when they hang, and never in the way of the process's end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from vmha.bulkhead import Bulkhead, CallLost, CallNotMade


async def test_results_and_errors_come_back() -> None:
    """A call's value is returned, its exception raised."""
    bulkhead = Bulkhead("h2", size=2)

    assert await bulkhead.run(lambda: 42, 1.0) == 42
    with pytest.raises(ZeroDivisionError):
        await bulkhead.run(lambda: 1 // 0, 1.0)


async def test_no_more_than_its_size_runs_at_once() -> None:
    """Twenty calls on two threads: never three at a time."""
    bulkhead, lock, now, most = Bulkhead("h2", size=2), threading.Lock(), 0, 0

    def call() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.005)
        with lock:
            now -= 1

    await asyncio.gather(*(bulkhead.run(call, 5.0) for _ in range(20)))

    assert most == 2


async def test_a_call_that_hangs_does_not_block_the_next() -> None:
    """One thread, one call that hangs: CallLost, and the next call runs on a new thread."""
    bulkhead, gate = Bulkhead("h2", size=1), threading.Event()

    with pytest.raises(CallLost):
        await bulkhead.run(gate.wait, 0.05)
    assert bulkhead.lost_calls == 1
    assert await bulkhead.run(lambda: "ok", 1.0) == "ok"

    gate.set()
    async with asyncio.timeout(5):
        while bulkhead.lost_calls:
            await asyncio.sleep(0.01)


async def test_a_call_that_no_thread_took_is_not_made_later() -> None:
    """Behind a busy thread a call times out as CallNotMade, and never runs."""
    bulkhead, gate, ran = Bulkhead("h2", size=1), threading.Event(), []
    busy = asyncio.create_task(bulkhead.run(gate.wait, 5.0))
    await asyncio.sleep(0.01)

    with pytest.raises(CallNotMade):
        await bulkhead.run(lambda: ran.append(1), 0.05)
    gate.set()
    await busy
    await bulkhead.run(lambda: None, 1.0)

    assert ran == []


async def test_a_cancelled_call_takes_no_thread_along() -> None:
    """Whoever waited was cancelled while the call hangs: it counts as lost, and the next call runs."""
    bulkhead, gate = Bulkhead("h2", size=1), threading.Event()
    waiting = asyncio.create_task(bulkhead.run(gate.wait, 5.0))
    await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert bulkhead.lost_calls == 1
    assert await bulkhead.run(lambda: "ok", 1.0) == "ok"
    gate.set()


async def test_lost_calls_are_bounded() -> None:
    """A host on which everything hangs gets no more threads until one comes back."""
    bulkhead, gate = Bulkhead("h2", size=1, max_lost=2), threading.Event()
    for _ in range(2):
        with pytest.raises(CallLost):
            await bulkhead.run(gate.wait, 0.02)

    with pytest.raises(CallNotMade, match="hang"):
        await bulkhead.run(lambda: None, 1.0)
    gate.set()


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    """The interpreter ends though a thread hangs."""
    program = (
        "import asyncio, threading\n"
        "from vmha.bulkhead import Bulkhead, CallLost\n"
        "async def main():\n"
        "    try: await Bulkhead('h2').run(threading.Event().wait, 0.05)\n"
        "    except CallLost: print('lost')\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)

    assert ended.stdout.strip() == "lost"
