"""The two clocks of a process, injected so that the simulator can replace them.

`now` drives every decision; `wall` only dates what people read. Waiting is asyncio's: the simulator runs the same code on a
virtual-time event loop.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

_BOOTTIME: Final = time.CLOCK_BOOTTIME


class Clock(Protocol):
    """What a service may ask of time."""

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME: never goes back, counts while the machine sleeps (safety.md section 2)."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch, for people and for records that outlive the process."""
        ...


class SystemClock:
    """The kernel's clocks."""

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        return time.clock_gettime(_BOOTTIME)

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()
