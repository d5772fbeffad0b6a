"""How one VM stands in an evacuation under way, and how fast an evacuation may go. The workflow's own table; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from vmha.evac import effects as fx
from vmha.store.records import VmEntry


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
