"""What really happened in a run: the ground truth that the invariants are checked on, written by the simulated world.

    history.note(Fact.GUEST_RUNS, vm="vm1", host="h2", cause="start")

Nothing of the product reads it; nothing in it comes from what the product believes, but for LEADS, DECIDED and the counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Fact(StrEnum):
    """What a line of the history says. Fields that are not named are empty."""

    HOST_UP = "HOST_UP"
    """host: it has power from now on."""
    HOST_DOWN = "HOST_DOWN"
    """host, cause (crash, reboot, fence, watchdog): it lost power, and its guests with it."""
    AGENT_UP = "AGENT_UP"
    """host: its agent runs."""
    AGENT_DOWN = "AGENT_DOWN"
    """host: its agent does not."""
    GUEST_CREATED = "GUEST_CREATED"
    """vm, host, cause (start, resume, operator, migration): a domain exists that executes nothing yet; it holds capacity."""
    GUEST_RUNS = "GUEST_RUNS"
    """vm, host, cause (initial, start, resume, operator, migration): the guest counts in the occupancy from now on.
    `start` was asked for by the evacuator; `resume` by the host's own agent: a returned host starts what it owns."""
    GUEST_ENDS = "GUEST_ENDS"
    """vm, host, cause (power, self_fencing, agent, evacuator, operator, migration): it counts no more."""
    GUEST_DROPPED = "GUEST_DROPPED"
    """vm, host: a domain that executed nothing is gone."""
    DISK_REBUILT = "DISK_REBUILT"
    """vm, host: its local disk was made anew there, from its image."""
    LOCKED = "LOCKED"
    """vm, host, cause (start, resume): a start was refused because the VM's disks are in use elsewhere."""
    SELF_FENCED = "SELF_FENCED"
    """host: its agent's guard expired, and its guests are destroyed."""
    CERTIFIED = "CERTIFIED"
    """host: its guard went over from a lease to an outage certificate."""
    CUT = "CUT"
    """host: from now on nothing gets to the leader from it, or nothing back; by isolate, partition, link or the leader's end."""
    JOINED = "JOINED"
    """host: the end of CUT."""
    MANAGER_UP = "MANAGER_UP"
    """manager (index)."""
    MANAGER_DOWN = "MANAGER_DOWN"
    """manager (index)."""
    LEADS = "LEADS"
    """manager (index), term: it took the cluster's lease."""
    EVAC_UP = "EVAC_UP"
    EVAC_DOWN = "EVAC_DOWN"
    STORE_DOWN = "STORE_DOWN"
    STORE_UP = "STORE_UP"
    STORE_LOST = "STORE_LOST"
    """It was emptied."""
    OPENED = "OPENED"
    """host, manager, term: an incident was made durable. `holder`: the manager whose lease the store held then; `term_held`."""
    OFF_BY_OPERATOR = "OFF_BY_OPERATOR"
    """host: an operator stated that it is off."""
    ACT = "ACT"
    """do, place and the arguments of an entry of the timeline that was carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One fact, at one instant of virtual time."""

    t: float
    fact: Fact
    host: str = ""
    vm: str = ""
    cause: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


class History:
    """The facts of a run, in the order in which they happened.

    Args:
        clock: Virtual seconds since the start.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = clock
        self.lines: list[Line] = []

    def note(self, fact: Fact, *, host: str = "", vm: str = "", cause: str = "", **detail: Any) -> None:
        """Something happened now."""
        self.lines.append(Line(t=self.clock(), fact=fact, host=host, vm=vm, cause=cause, detail=detail))

    def of(self, *facts: Fact) -> Iterator[Line]:
        """The lines that say one of these."""
        return (line for line in self.lines if line.fact in facts)


class Refused(Exception):
    """An act of the timeline was refused, by the product or by the nature of things.

    Attributes:
        reason: UPPER_SNAKE_CASE.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
