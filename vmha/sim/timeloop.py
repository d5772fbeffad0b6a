"""Virtual time: an event loop that never waits.

    loop = VirtualLoop()
    loop.run_until(main())      # an hour of sleeping takes as long as its callbacks
    loop.run_for(60.0)

When nothing is ready the loop's time jumps to the next timer. The order of callbacks is a function of the order of calls alone:
timers of one instant run in the order in which they were made, and tasks in sets (TaskGroup, asyncio.wait) iterate in the order
of their creation. There are no threads and no file descriptors: what asks for them gets an error, or runs on the spot.

What remains outside is the hash of text: a program that iterates over sets of strings is the same from run to run only under a
fixed PYTHONHASHSEED.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

OWNER: contextvars.ContextVar[object] = contextvars.ContextVar("owner", default=None)
"""On whose behalf code runs: a simulated process. Tasks and timers inherit it; `VirtualLoop.kill` ends all of one owner."""
RESOLUTION_S = 1e-6
"""The shortest span of a timer. A host with a slow clock that sleeps until its own deadline comes close to it in ever smaller
steps; without this it would get stuck where a step is too small to change the time."""
RUNAWAY_CALLBACKS = 1_000_000
"""So many callbacks at one instant are a loop that never waits."""
_SWEEP_AFTER = 1024


class NothingLeft(RuntimeError):
    """Nobody will ever wake up again, and what was waited for has not happened."""


class Runaway(RuntimeError):
    """Virtual time stands still: callbacks make callbacks without end."""


class _Handle(asyncio.Handle):
    """A callback, made without the questions of the debug mode: this is the hottest path of the simulator."""

    __slots__ = ()
    _repr = _source_traceback = None  # of the debug mode
    _context: contextvars.Context
    _callback: Callable[..., object]
    _args: tuple[Any, ...]
    _cancelled: bool

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: VirtualLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False


class _Timer(asyncio.TimerHandle):
    """A callback with its instant."""

    __slots__ = ()
    _repr = _source_traceback = None  # of the debug mode
    _context: contextvars.Context
    _callback: Callable[..., object]
    _args: tuple[Any, ...]
    _cancelled: bool
    _scheduled: bool
    _loop: VirtualLoop

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: VirtualLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._when = when
        self._scheduled = True

    def cancel(self) -> None:
        """As asyncio's, in one step: each sleep that is over cancels its timer."""
        if not self._cancelled:
            self._cancelled = True
            if self._scheduled:
                self._loop._timer_handle_cancelled(self)
            self._callback, self._args = _nothing, ()


def _nothing() -> None:
    """The callback of a timer that was cancelled."""


class _Task(asyncio.Task[T]):
    """A task whose place in a set comes from its number: an address would differ from run to run."""

    def __init__(
        self, number: int, owner: object, coroutine: Any, loop: VirtualLoop, name: str, context: contextvars.Context | None
    ) -> None:
        self._number = number
        self.owner = owner
        super().__init__(coroutine, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on virtual time.

    Args:
        start_s: What time() says first.
        runaway_callbacks: How many callbacks at one instant are too many.
    """

    _stopping: bool
    _debug: bool
    _closed: bool

    def __init__(self, start_s: float = 0.0, *, runaway_callbacks: int = RUNAWAY_CALLBACKS) -> None:
        super().__init__()
        self._time = start_s
        self._runaway_callbacks = runaway_callbacks
        self._ready: deque[_Handle | _Timer] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._sequence = 0
        self._cancelled_timers = 0
        self._task_numbers = itertools.count(1)
        # asyncio.all_tasks looks at those of every loop that was ever there. Weakly, as there; swept now and then.
        self._tasks: list[weakref.ref[_Task[Any]]] = []
        self._tasks_swept = 0
        self.set_debug(False)
        self.callbacks = 0
        """Callbacks run so far."""

    def __repr__(self) -> str:
        return f"<VirtualLoop t={self._time:.6f} ready={len(self._ready)} timers={len(self._timers)}>"

    def time(self) -> float:
        """Virtual seconds."""
        return self._time

    get_debug = staticmethod(bool)  # False, without a frame of Python: every future asks

    # -- what callers schedule

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Runs the callback at this instant, after what is ready already."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Runs the callback delay virtual seconds from now; a positive delay is at least RESOLUTION_S."""
        if 0.0 < delay < RESOLUTION_S:
            delay = RESOLUTION_S
        return self._schedule(self._time + delay, callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Runs the callback at an instant; one in the past is now."""
        return self._schedule(when, callback, args, context)

    def _schedule(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> _Timer:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        timer = _Timer(when, callback, args, self, context)
        self._sequence += 1
        heappush(self._timers, (when, self._sequence, timer))
        return timer

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """A task, numbered by this loop."""
        number = next(self._task_numbers)
        owner = OWNER.get() if context is None else context.get(OWNER)
        task: _Task[T] = _Task(number, owner, coro, self, f"Task-{number}" if name is None else str(name), context)
        tasks = self._tasks
        tasks.append(weakref.ref(task))
        if len(tasks) > 2 * self._tasks_swept + _SWEEP_AFTER:
            tasks[:] = [ref for ref in tasks if ref() is not None]
            self._tasks_swept = len(tasks)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Runs the function on the spot: there are no threads, and virtual time stands still meanwhile."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    # -- running

    def run_until(self, coro: Coroutine[Any, Any, T]) -> T:
        """Runs until the coroutine ends; its result.

        Raises:
            NothingLeft: It waits for something that will never come.
            Runaway: Virtual time stands still.
        """
        return self.run_until_complete(coro)

    def run_for(self, span_s: float) -> None:
        """Runs span_s virtual seconds, the timers of the last instant included.

        Raises:
            Runaway: Virtual time stands still.
        """
        end = self.call_at(self._time + span_s, self.stop)
        try:
            self.run_forever()
        finally:
            end.cancel()

    def living(self) -> list[_Task[Any]]:
        """The tasks that have not ended, the oldest first."""
        return [task for ref in self._tasks if (task := ref()) is not None and not task.done()]

    def kill(self, owner: object) -> int:
        """Cancels every task and timer of an owner; what its tasks do about it still runs. Returns how many tasks there were."""
        tasks = [task for task in self.living() if task.owner is owner]
        for task in tasks:
            task.cancel()
        for _, _, timer in list(self._timers):
            if timer._context.get(OWNER) is owner and not timer._cancelled:
                timer.cancel()
        return len(tasks)

    def shut_down(self) -> None:
        """Cancels every task, waits until they have ended, and closes the loop.

        Raises:
            NothingLeft: A task does not end though it was cancelled.
        """
        for task in self.living():
            task.cancel()
        self.run_until(_ended(set(self.living())))
        self.run_until(self.shutdown_asyncgens())
        self.close()

    def close(self) -> None:
        """Forgets everything that is scheduled."""
        super().close()
        self._timers.clear()

    def _run_once(self) -> None:
        """Runs callbacks until stop() is called: not one round, as asyncio's own does, but all of them."""
        ready, timers = self._ready, self._timers
        at_instant = 0
        while not self._stopping:
            if not ready:
                at_instant = self._next_instant(at_instant)
            batch = len(ready)
            at_instant += batch
            self.callbacks += batch
            if at_instant > self._runaway_callbacks:
                raise Runaway(f"{at_instant} callbacks at {self._time:.6f} s without time passing; next: {self._shown(ready)}")
            for _ in range(batch):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._tell(handle, error)
            if timers and timers[0][0] <= self._time:
                self._collect()

    def _next_instant(self, at_instant: int) -> int:
        """Moves time to the next timer and makes its instant's timers ready; the count of callbacks at the instant."""
        timers, ready = self._timers, self._ready
        while timers:
            when, _, timer = heappop(timers)
            timer._scheduled = False
            if timer._cancelled:
                self._cancelled_timers -= 1
                continue
            ready.append(timer)
            if when > self._time:
                self._time = when
                at_instant = 0
            if timers and timers[0][0] <= when:
                self._collect()
            return at_instant
        raise NothingLeft(f"nothing left to do at {self._time:.6f} s; waiting for ever: {self._waiting()}")

    def _collect(self) -> None:
        """Makes this instant's timers ready."""
        timers, ready, now = self._timers, self._ready, self._time
        while timers and timers[0][0] <= now:
            timer = heappop(timers)[2]
            timer._scheduled = False
            if timer._cancelled:
                self._cancelled_timers -= 1
            else:
                ready.append(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by the cancel() of a timer in the heap; sweeps the heap when half of it is cancelled."""
        self._cancelled_timers += 1
        if self._cancelled_timers > _SWEEP_AFTER and self._cancelled_timers * 2 > len(self._timers):
            # In place: the running loop holds this list.
            self._timers[:] = [entry for entry in self._timers if not entry[2]._cancelled]
            heapify(self._timers)
            self._cancelled_timers = 0

    def _tell(self, handle: asyncio.Handle, error: BaseException) -> None:
        message = f"Exception in callback {handle!r}"
        self.call_exception_handler({"message": message, "exception": error, "handle": handle})

    def _shown(self, handles: deque[_Handle | _Timer]) -> str:
        shown = (getattr(handle._callback, "__self__", handle) for handle in itertools.islice(handles, 5))
        return "; ".join(repr(callback) for callback in shown)  # a task's step shows nothing; the task does

    def _waiting(self) -> str:
        names = [task.get_name() for task in self.living()]
        return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "no task"

    # -- what there is none of

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""

    def _process_events(self, event_list: object) -> None:
        """There are no file descriptors."""


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
