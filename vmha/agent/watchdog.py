"""Core: whether the host's watchdog may be fed (docs/safety.md, R10).

The agent stops the VMs when its guard ends. Should it stall, nobody does - unless the watchdog resets the host, in time: within
T_kill after the guard's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vmha.agent.lease_events import NEVER, Kept
from vmha.model import Timers

MARGIN_S: Final = 0.5
"""Between the last feeding and the moment from which it would be too late: one look, and a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What the watchdog is set to, in seconds.

    Attributes:
        timeout_s: It resets the host when it was not fed for this long.
        reset_s: The reset takes this long, until no guest executes.
    """

    timeout_s: float
    reset_s: float


def guard_end(kept: Kept) -> float | None:
    """When the guard on record ends; None when nothing is enforced, or nothing was promised yet."""
    until = max(kept.lease_until, kept.cert_until, kept.carried_until)
    if kept.latched:
        # Without a promise on record (R9) the VMs that are found should not be there at all.
        return until
    if kept.config is None or not kept.config.enforced or until == NEVER:
        return None
    return until


def is_unguarded(kept: Kept | None) -> bool:
    """Whether the VMs that are found run under a guard that nobody knows any more (R9)."""
    return kept is not None and guard_end(kept) == NEVER


def is_quick_enough(device: Device, kill_timeout_s: float) -> bool:
    """Whether a host that is fed for the last time at the guard's end is reset within T_kill (I6)."""
    return kill_timeout_s >= device.timeout_s + device.reset_s + MARGIN_S


def may_feed(kept: Kept | None, *, vms_alive: bool, found_at: float, device: Device, now: float) -> bool:
    """Whether the watchdog may be fed now.

    Args:
        kept: The lease's record; None where there is none, on a host that was never leased.
        vms_alive: Some VM has a process, or nobody can say.
        found_at: Since when VMs are known to be alive whose guard is not on record (R9): the time for stopping them begins then.
        now: Seconds on CLOCK_BOOTTIME.
    """
    if kept is None or not vms_alive:
        return True
    end = guard_end(kept)
    if end is None or (now < end and not kept.latched):
        return True
    begin = found_at if end == NEVER else end
    kill_timeout_s = Timers().kill_timeout_s if kept.config is None else kept.config.kill_timeout_s
    return now < begin + kill_timeout_s - device.timeout_s - device.reset_s - MARGIN_S
