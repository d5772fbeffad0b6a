"""Core: what an agent makes of a guard that ended while no agent ran (docs/decisions/014-an-agent-that-was-away.md).

Back within T_kill after the guard's end it acts as if it had never been away (R3, R9): whoever relies on the lease has the VMs'
end in time. Later than that nobody can rely on it any more: a host without a watchdog whose agent died proves nothing by its
silence (design 5.3). Its VMs may be the host's still, and to destroy them would harm guests for an agent's crash. So they get a
bounded time in which a manager can say that nobody took them over; until then nothing is started, no heartbeat is sent, and
nothing is promised.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vmha.agent.lease_events import NEVER, Kept


def is_lapsed(kept: Kept, now: float) -> bool:
    """Whether a record that is loaded now says so."""
    if kept.latched or kept.config is None or not kept.config.enforced:
        return False
    end = max(kept.lease_until, kept.cert_until, kept.carried_until)
    return math.isfinite(end) and now >= end + kept.config.kill_timeout_s


def until(kept: Kept, now: float) -> float:
    """How long a manager may take."""
    return now if kept.config is None else now + kept.config.kill_timeout_s


def without_guard(kept: Kept) -> Kept:
    """The record with which such an agent begins: what was promised is over, and nothing is enforced before the next ack."""
    return replace(kept, leased_incarnation=0, lease_until=NEVER, cert_until=NEVER, carried_until=NEVER)
