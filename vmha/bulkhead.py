"""One host's threads: calls that may block for ever, kept away from everyone else's (one bulkhead per host).

Threads are daemons: a call that never returns must not keep the process from ending, as concurrent.futures would.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class CallLost(Exception):
    """A call did not return in time and may still run: its outcome is unknown."""


class CallNotMade(Exception):
    """No thread took the call: it has done nothing, and will do nothing."""


class _Call:
    __slots__ = ("dropped", "function", "future", "lock", "loop", "started")

    def __init__(self, function: Callable[[], object], future: asyncio.Future[object]) -> None:
        self.function, self.future, self.loop = function, future, future.get_loop()
        self.lock = threading.Lock()
        self.started = self.dropped = False

    def begin(self) -> bool:
        with self.lock:
            self.started = not self.dropped
            return self.started

    def drop(self) -> bool:
        """Whether it had not begun, and never will."""
        with self.lock:
            self.dropped = not self.started
            return self.dropped

    def __call__(self) -> None:
        try:
            result, error = self.function(), None
        except BaseException as raised:
            result, error = None, raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._tell, result, error)

    def _tell(self, result: object, error: BaseException | None) -> None:
        if not self.future.done():
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(error)


class _Crew:
    """Threads on one queue. Abandoned when one is lost: the others end after what they do now."""

    def __init__(self, name: str, size: int) -> None:
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._name, self._size, self._made, self._idle = name, size, 0, 0

    def submit(self, call: _Call) -> None:
        self.calls.put(call)
        if self._made < self._size:
            self._made += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._made}", daemon=True).start()

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            if call.begin():
                call()

    def abandon(self) -> None:
        for _ in range(self._made):
            self.calls.put(None)


class Bulkhead:
    """Runs one host's blocking calls on its own threads.

    `size` threads at a time; at most `max_lost` calls that hang before nothing more is sent until one of them returns.
    """

    def __init__(self, name: str, *, size: int = 4, max_lost: int = 8) -> None:
        self._name, self._size, self._max_lost = name, size, max_lost
        self._crew = _Crew(name, size)
        self._lost: set[asyncio.Future[object]] = set()

    @property
    def lost_calls(self) -> int:
        """Calls that hang now."""
        return len(self._lost)

    async def run(self, function: Callable[[], T], timeout_s: float) -> T:
        """Runs it on a thread.

        Raises:
            CallLost: It did not return in time. It may still run; its threads are replaced.
            CallNotMade: No thread was free in time, or too many calls hang already.
        """
        if len(self._lost) >= self._max_lost:
            raise CallNotMade(f"{len(self._lost)} calls to {self._name} hang")
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        call = _Call(function, future)
        crew = self._crew
        crew.submit(call)
        try:
            done, _ = await asyncio.wait([future], timeout=timeout_s)
        except asyncio.CancelledError:
            if not call.drop():
                self._lose(crew, future)  # it may hang for ever: the next ones need threads
            raise
        if done:
            return future.result()  # type: ignore[return-value]
        if call.drop():
            raise CallNotMade(f"no thread for {self._name} was free within {timeout_s:g} s")
        self._lose(crew, future)
        raise CallLost(f"{self._name} gave no answer within {timeout_s:g} s")

    def _lose(self, crew: _Crew, future: asyncio.Future[object]) -> None:
        self._lost.add(future)
        future.add_done_callback(self._returned)
        if crew is self._crew:
            crew.abandon()
            self._crew = _Crew(self._name, self._size)

    def _returned(self, future: asyncio.Future[object]) -> None:
        self._lost.discard(future)
        if not future.cancelled():
            future.exception()  # seen: whoever asked has gone on

    def close(self) -> None:
        """Ends idle threads; those that hang die with the process."""
        self._crew.abandon()
