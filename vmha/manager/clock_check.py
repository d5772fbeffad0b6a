"""Core: does a host's clock run as fast as ours? (docs/safety.md, R21; design section 5.3, rung 2)

Each heartbeat carries the host's CLOCK_BOOTTIME. Its offset to our clock is off by the heartbeat's way, which only ever makes it
smaller; so the largest offset of a while is taken, and that of two whiles is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vmha.safety import RHO

ANCHOR_S: Final = 600.0
"""Offsets are compared over this long at most: over a day even a fast clock's second would drown in what drift allows."""
SUSPECT_S: Final = 3600.0
"""A clock that was found wrong is not believed for this long after."""

RECENT: Final = 8
"""The newest heartbeats: not all of them were held up on their way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """What is known of a host's clock against ours.

    Attributes:
        sane: Nothing says that it runs slower or faster by more than rho.
        over_s: The time over which it was compared; 0 when not long enough yet.
        gained_s: What it gained on ours in that time, up to the way of one heartbeat; negative when it lost.
    """

    sane: bool
    over_s: float = 0.0
    gained_s: float = 0.0


@dataclass(slots=True)
class ClockCheck:
    """One boot of one host.

    Attributes:
        suspect_at: When it was last found wrong; None where it never was.
        ran_fast: It was found faster than ours then.
    """

    began: float = 0.0
    best: float | None = None
    anchored_at: float = 0.0
    anchor: float | None = None
    suspect_at: float | None = None
    ran_fast: bool = False
    recent: tuple[float, ...] = ()

    def note(self, boot_time_s: float, now: float, *, while_s: float, slack_s: float) -> bool:
        """A heartbeat's time; whether the clock was found wrong by it.

        Args:
            boot_time_s: CLOCK_BOOTTIME of the host when it made the heartbeat.
            now: When it was processed.
            while_s: How long heartbeats are collected for one comparison: one of them at least was not held up.
            slack_s: The longest way that is not held up.
        """
        offset = boot_time_s - now
        self.recent = (*self.recent, offset)[-RECENT:]
        if self.best is None:
            self.began, self.best = now, offset
            return False
        self.best = max(self.best, offset)
        if now - self.began < while_s:
            return False
        found, self.best = self.best, None
        if self.anchor is None:
            self.anchor, self.anchored_at = found, now
            return False
        wrong = abs(found - self.anchor) > self._allowed(now, slack_s)
        if wrong:
            self.suspect_at, self.ran_fast = now, found > self.anchor
        if wrong or now - self.anchored_at > ANCHOR_S:
            self.anchor, self.anchored_at = found, now
        return wrong

    def is_sane(self, now: float, slack_s: float) -> bool:
        """Whether nothing says that it runs slower or faster than ours by more than rho, the newest heartbeats included."""
        if self.suspect_at is not None and now - self.suspect_at < SUSPECT_S:
            return False
        if self.anchor is None or len(self.recent) < RECENT:
            return True
        return abs(max(self.recent) - self.anchor) <= self._allowed(now, slack_s)

    def reading(self, now: float, slack_s: float) -> ClockReading:
        """What is known of it, for people."""
        sane = self.is_sane(now, slack_s)
        if self.anchor is None or len(self.recent) < RECENT:
            return ClockReading(sane=sane)
        return ClockReading(sane=sane, over_s=now - self.anchored_at, gained_s=max(self.recent) - self.anchor)

    def forget(self) -> None:
        """This process stood still: when heartbeats arrived is not known."""
        self.best = self.anchor = None
        self.recent = ()

    def _allowed(self, now: float, slack_s: float) -> float:
        return RHO * (now - self.anchored_at) + slack_s
