"""How one VM stands in an evacuation under way, and how fast an evacuation may go. The workflow's own table; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from vmha.evac import effects as fx
from vmha.store.records import VmEntry

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Waits before a VM with an unknown outcome is looked at again."""
PATIENCE = 4
"""After so many looks in vain a pinned VM is PENDING: the rest of the evacuation does not wait for its target."""
NOT_ANSWERING_S = 30.0
"""For how long no new VM is sent to a target that left a start without an answer."""


class Phase(Enum):
    """What a VM waits for."""

    UNPLACED = auto()  # wants a target
    PENDING = auto()  # no room; asked again with the next retry
    HELD = auto()  # its storage is locked; waits for an operator
    READY = auto()  # has a target, waits for a slot
    AGAIN = auto()  # claimed, is to be started again on its target; waits for a slot
    WAITING = auto()  # looked at again at `retry_at`
    BUSY = auto()  # an operation runs
    DONE = auto()


@dataclass(slots=True)
class VmWork:
    """One VM. `pinned`: no target but the present one, for it may execute there. `target`: chosen, not claimed yet."""

    entry: VmEntry
    priority: int
    phase: Phase
    target: str = ""
    busy_with: type[fx.Operation] | None = None
    pinned: bool = False
    failures: int = 0
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How fast an evacuation may go: VMs at a time (all, on one target), seconds between retries."""

    parallel: int
    parallel_per_target: int
    fence_retry_s: float
    pending_retry_s: float
