"""The clocks of the simulated machines."""

from __future__ import annotations

from vmha.sim.timeloop import VirtualLoop


class SimClock:
    """The two clocks of a simulated machine: a vmha.clock.Clock on a loop's virtual time.

    Only readings drift. Timers (asyncio.sleep, timeouts) run on the loop's time for all machines: a shell that wakes up early by
    its own clock asks its core, which goes by `now`, and sleeps again.

    Args:
        loop: Whose time it shows.
        rate: Seconds of this clock in one second of the loop: 1.001 runs fast.
        start_s: What now() says first.
        wall_start_s: What wall() says first, in seconds since the Unix epoch.
    """

    def __init__(
        self, loop: VirtualLoop, rate: float = 1.0, *, start_s: float = 0.0, wall_start_s: float = 1_900_000_000.0
    ) -> None:
        self._loop = loop
        self._rate = rate
        self._since = loop.time()
        self._base_s = start_s
        self._wall_offset_s = wall_start_s - start_s

    def now(self) -> float:
        """Seconds of this machine's CLOCK_BOOTTIME: never goes back."""
        return self._base_s + (self._loop._time - self._since) * self._rate

    def wall(self) -> float:
        """Seconds since the Unix epoch, as this machine believes."""
        return self.now() + self._wall_offset_s

    @property
    def rate(self) -> float:
        """Seconds of this clock in one of the loop."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if not rate > 0:
            raise ValueError(f"rate is {rate}, expected more than 0: a clock never goes back")
        self._base_s, self._since, self._rate = self.now(), self._loop.time(), rate

    def step_wall(self, by_s: float) -> None:
        """Sets the wall clock by so many seconds, as an operator or NTP would; now() does not notice."""
        self._wall_offset_s += by_s
