"""Core: what an agent makes of a guard that ended while no agent ran (docs/decisions/014-an-agent-that-was-away.md).

Its VMs may be the host's still, and to destroy them would harm guests for an agent's crash alone. So a manager gets a moment in
which it can say that nobody took them over; until then nothing is started, no heartbeat is sent, and nothing is promised.

A moment only: somebody may count on the VMs being gone by T_kill after the guard's end (R3, R9, I6), or be about to start them.
A manager that can be reached answers within milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from vmha.agent.lease_events import NEVER, Kept

MOMENT: Final = 0.1
"""Of T_kill: what I6 leaves of it in both profiles when a tick and the VMs' destruction are taken off."""


def is_lapsed(kept: Kept, now: float) -> bool:
    """Whether a record that is loaded now says so."""
    if kept.latched or kept.config is None or not kept.config.enforced:
        return False
    end = guard_end(kept)
    return math.isfinite(end) and now >= end


def until(kept: Kept, now: float) -> float:
    """How long a manager may take."""
    return now if kept.config is None else now + MOMENT * kept.config.kill_timeout_s


def guard_end(kept: Kept) -> float:
    """When the last of what was promised ended."""
    return max(kept.lease_until, kept.cert_until, kept.carried_until)


def without_guard(kept: Kept) -> Kept:
    """The record with which such an agent begins: what was promised is over, and nothing is enforced before the next ack."""
    return replace(kept, leased_incarnation=0, lease_until=NEVER, cert_until=NEVER, carried_until=NEVER)
