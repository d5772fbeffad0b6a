"""Virtual time: what asyncio promises still holds, nothing waits, and the same calls give the same order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmha.sim.clock import SimClock
from vmha.sim.timeloop import RESOLUTION_S, NothingLeft, Runaway, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_an_hour_of_sleep_takes_no_time(loop: VirtualLoop) -> None:
    """sleep moves virtual time only."""
    before = time.monotonic()
    loop.run_until(asyncio.sleep(3600.0))

    assert loop.time() == 3600.0
    assert time.monotonic() - before < 1.0


def test_timers_of_one_instant_run_in_the_order_of_their_making(loop: VirtualLoop) -> None:
    """The heap breaks ties by sequence, and an earlier instant comes first whenever it was made."""
    seen: list[int] = []
    for number in range(50):
        loop.call_at(2.0, seen.append, number)
    loop.call_at(1.0, seen.append, -1)
    loop.run_for(2.0)

    assert seen == [-1, *range(50)]


def test_what_is_ready_comes_before_time_moves(loop: VirtualLoop) -> None:
    """Time stands still until every callback of the instant has run, those made meanwhile included."""
    seen: list[tuple[str, float]] = []

    def chain(left: int) -> None:
        seen.append(("soon", loop.time()))
        if left:
            loop.call_soon(chain, left - 1)

    loop.call_later(1.0, lambda: seen.append(("later", loop.time())))
    loop.call_soon(chain, 3)
    loop.run_for(1.0)

    assert seen == [("soon", 0.0)] * 4 + [("later", 1.0)]


def test_a_timer_of_now_is_not_starved_by_a_busy_wait(loop: VirtualLoop) -> None:
    """A task that yields until a timer of this instant has run gets its way."""

    async def busy() -> float:
        done: list[bool] = []
        loop.call_at(loop.time(), done.append, True)
        while not done:
            await asyncio.sleep(0)
        return loop.time()

    assert loop.run_until(busy()) == 0.0


def test_timeouts_and_task_groups_work(loop: VirtualLoop) -> None:
    """timeout, wait_for, TaskGroup, Queue, Event and to_thread behave as on a real loop."""

    async def scenario() -> list[object]:
        out: list[object] = []
        try:
            async with asyncio.timeout(5.0):
                await asyncio.sleep(10.0)
        except TimeoutError:
            out.append(("timeout", loop.time()))
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 2.5)
        except TimeoutError:
            out.append(("wait_for", loop.time()))
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(_put_later(queue, 7, 1.0))
            got = group.create_task(queue.get())
        out.append((got.result(), loop.time()))
        out.append(await asyncio.to_thread(lambda: 42))
        return out

    assert loop.run_until(scenario()) == [("timeout", 5.0), ("wait_for", 7.5), (7, 8.5), 42]


async def _put_later(queue: asyncio.Queue[int], value: int, after_s: float) -> None:
    await asyncio.sleep(after_s)
    queue.put_nowait(value)


def test_a_failing_group_cancels_its_tasks_in_the_order_of_their_making(loop: VirtualLoop) -> None:
    """TaskGroup keeps its tasks in a set; its order is that of creation, not that of addresses."""
    ended: list[int] = []

    async def waits(number: int) -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            ended.append(number)

    async def fails() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("as planned")

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(waits(number))
            group.create_task(fails())

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        loop.run_until(scenario())
    assert ended == list(range(40))
    assert loop.time() == 1.0


def test_waiting_for_ever_is_told(loop: VirtualLoop) -> None:
    """No timer and nothing ready: the error names the tasks that wait."""

    async def forever() -> None:
        asyncio.current_task().set_name("the-waiter")  # type: ignore[union-attr]
        await asyncio.sleep(3.0)
        await loop.create_future()

    with pytest.raises(NothingLeft, match=r"nothing left to do at 3\.000000 s.*the-waiter"):
        loop.run_until(forever())


def test_a_loop_that_never_waits_is_told() -> None:
    """Callbacks without end at one instant are an error that shows one of them, not a hang."""
    loop = VirtualLoop(runaway_callbacks=10_000)

    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Runaway, match=r"at 0\.000000 s without time passing; next: .*spins"):
        loop.run_until(spins())
    loop.close()


def test_many_callbacks_over_time_are_no_runaway() -> None:
    """The count starts again whenever time passes."""
    loop = VirtualLoop(runaway_callbacks=50)

    async def ticks() -> None:
        for _ in range(200):
            await asyncio.sleep(0.1)

    loop.run_until(ticks())
    assert loop.callbacks > 200
    loop.close()


def test_cancelled_timers_do_not_run_and_do_not_pile_up(loop: VirtualLoop) -> None:
    """A heap that is mostly cancelled is swept, also while the loop runs; the others still run in order."""
    seen: list[int] = []

    def storm() -> None:
        for number in range(5000):
            timer = loop.call_later(50.0 + number, seen.append, number)
            if number % 500:
                timer.cancel()

    loop.call_soon(storm)
    loop.run_for(1.0)
    assert len(loop._timers) < 2500
    loop.run_for(6000.0)

    assert seen == list(range(0, 5000, 500))


def test_errors_of_callbacks_are_told_and_the_loop_goes_on(loop: VirtualLoop) -> None:
    """A callback that raises reaches the exception handler; the next one runs."""
    told: list[object] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    error = ValueError("x")

    def fails() -> None:
        raise error

    loop.call_soon(fails)
    loop.call_soon(told.append, "next")
    loop.run_for(0.0)

    assert told == [error, "next"]


def test_shutting_down_cancels_what_runs(loop: VirtualLoop) -> None:
    """Every task is cancelled and gets to clean up, and the loop is closed."""
    cleaned: list[float] = []

    async def cleans() -> None:
        try:
            await asyncio.sleep(1000.0)
        finally:
            await asyncio.sleep(1.0)
            cleaned.append(loop.time())

    task = loop.create_task(cleans())
    loop.run_for(5.0)
    loop.shut_down()

    assert cleaned == [6.0]
    assert task.cancelled()
    assert loop.is_closed()


def _trace(seed: int) -> list[tuple[float, int]]:
    loop = VirtualLoop()
    seen: list[tuple[float, int]] = []

    async def walker(number: int) -> None:
        pace = (seed * 31 + number * 7) % 11
        for step in range(20):
            await asyncio.sleep((pace + step) % 3)
            seen.append((loop.time(), number))

    async def scenario() -> None:
        await asyncio.wait({loop.create_task(walker(number)) for number in range(30)})

    loop.run_until(scenario())
    loop.close()
    return seen


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_same_calls_give_the_same_order(seed: int) -> None:
    """Two runs of one program are one sequence."""
    assert _trace(seed) == _trace(seed)


@given(st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(0.0, 100.0)), max_size=20))
def test_a_drifting_clock_never_goes_back(spans: list[tuple[float, float]]) -> None:
    """Whatever its rate becomes, and when: now() is continuous, and each span passes at its rate."""
    loop = VirtualLoop()
    clock = SimClock(loop, start_s=1000.0, wall_start_s=5.0)
    for rate, span in spans:
        before = clock.now()
        clock.rate = rate
        assert clock.now() == before
        loop.run_for(span)
        assert clock.now() == pytest.approx(before + span * rate)
        assert clock.wall() == pytest.approx(clock.now() - 995.0)
    loop.close()


def test_a_slow_clock_reaches_its_deadline(loop: VirtualLoop) -> None:
    """Sleeping until one's own deadline by a slow clock ends: no step is too small to move time."""
    clock = SimClock(loop, rate=0.999, start_s=123456.789)
    deadline = clock.now() + 10.0

    async def waits() -> None:
        while (left := deadline - clock.now()) > 0:
            await asyncio.sleep(left)

    loop.run_until(waits())
    assert loop.time() == pytest.approx(10.0 / 0.999, abs=2 * RESOLUTION_S)


def test_setting_the_wall_clock_leaves_now_alone(loop: VirtualLoop) -> None:
    """An operator or NTP moves what people read, not what decides."""
    clock = SimClock(loop, wall_start_s=100.0)
    clock.step_wall(-50.0)

    assert (clock.now(), clock.wall()) == (0.0, 50.0)


def test_a_clock_does_not_stand_still(loop: VirtualLoop) -> None:
    """A rate of 0 or less is refused."""
    clock = SimClock(loop)
    with pytest.raises(ValueError, match="expected more than 0"):
        clock.rate = 0.0
