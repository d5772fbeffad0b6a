"""Scenarios and histories made by hand."""

from __future__ import annotations

from typing import Any

from vmha.sim import scenario
from vmha.sim.history import Fact, Line
from vmha.sim.truth import Truth


def raw(**changes: Any) -> dict[str, Any]:
    """A small valid scenario: three hosts, two VMs on h1; keywords replace keys."""
    content: dict[str, Any] = {
        "name": "small",
        "seed": 1,
        "until": 100,
        "profile": "fast",
        "hosts": [{"id": "h1"}, {"id": "h2"}, {"id": "h3"}],
        "vms": [{"id": "vm1", "host": "h1"}, {"id": "vm2", "host": "h1", "ha": False}],
        "timeline": [],
    }
    return {**content, **changes}


def line(t: float, fact: Fact, host: str = "", vm: str = "", cause: str = "", **detail: Any) -> Line:
    """A line of a history."""
    return Line(t=t, fact=fact, host=host, vm=vm, cause=cause, detail=detail)


def state(t: float, host: str, to: str, reason: str = "", before: str = "") -> dict[str, Any]:
    """A host_state event."""
    return {"t": t, "type": "host_state", "host": host, "from": before, "to": to, "reason": reason, "message": ""}


def moved(t: float, vm: str, source: str, target: str, outcome: str = "MOVED", evacuation: str = "e1") -> dict[str, Any]:
    """A vm event that settles a VM."""
    return {
        "t": t, "type": "vm", "vm": vm, "host": source, "target": target, "step": "SETTLED", "outcome": outcome,
        "reason": "", "message": "", "evacuation": evacuation,
    }  # fmt: skip


START = [line(0.0, Fact.GUEST_RUNS, "h1", "vm1", "initial"), line(0.0, Fact.GUEST_RUNS, "h1", "vm2", "initial")]
"""What the small scenario's history begins with."""


def truth(lines: list[Line], events: list[dict[str, Any]] | None = None, **changes: Any) -> Truth:
    """A finished run of the small scenario; changes of its keys, `final` and `errors` as keywords."""
    beside = {name: changes.pop(name) for name in ("final", "errors") if name in changes}
    return Truth(scenario=scenario.parse(raw(**changes)), lines=[*START, *lines], events=events or [], **beside)
