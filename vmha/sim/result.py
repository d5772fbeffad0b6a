"""RESULT: what a run has to show, byte for byte the same for the same scenario (design section 9, docs/simulator.md).

text = render(result)       # sorted keys, times to the millisecond, newline at the end
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vmha.sim.history import Fact, Line
from vmha.sim.scenario import Scenario

DECIMALS: Final = 3
"""Times are rounded to the millisecond."""
TYPES: Final[Mapping[str, str]] = {
    "host_state_change": "host_state",
    "protection_state_change": "protection",
    "alarm": "alarm",
    "vm_evacuation_change": "vm",
    "evacuation_state_change": "evacuation",
    "operator_act": "operator",
}
"""An event's type in RESULT, by the contract's oneof case. An act of the timeline that was refused is of type `refused`."""
_PREFIXES: Final = (
    "HOST_STATE_",
    "PROTECTION_STATE_",
    "EVACUATION_STATE_",
    "EVACUATION_KIND_",
    "VM_OUTCOME_",
    "VM_STEP_",
    "PROOF_KIND_",
)
_COUNTS: Final = ("total", "moved", "skipped", "failed", "pending", "restarted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One entry of the event log, as it was appended.

    Attributes:
        t: Virtual seconds since the settled start.
        kind: The contract's oneof case.
        detail: Its fields by their proto names.
    """

    t: float
    kind: str
    detail: Mapping[str, Any]
    incident_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A span in which a guest ran on a host, or was paused there by its user; half open. None: to the end."""

    host: str
    start: float
    end: float | None
    cause: str = ""
    ended_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run's RESULT, before it is rendered."""

    events: Sequence[Mapping[str, Any]]
    occupancy: Mapping[str, Sequence[Interval]]
    final: Mapping[str, Any]
    violations: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def render(result: Result) -> str:
    """The bytes of a RESULT file."""
    content = {
        "events": result.events,
        "occupancy": {
            vm: [{"host": span.host, "from": span.start, "to": span.end} for span in spans if span.end != span.start]
            for vm, spans in result.occupancy.items()
        },
        "final": result.final,
        "violations": result.violations,
    }
    return json.dumps(rounded(content), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def rounded(value: Any) -> Any:
    """The same with every float to the millisecond; never minus zero."""
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def occupancy(lines: Iterable[Line]) -> dict[str, list[Interval]]:
    """Each VM's intervals from the ground truth, in order of time."""
    spans: dict[str, list[Interval]] = {}
    open_spans: dict[tuple[str, str], Line] = {}
    for line in lines:
        key = (line.vm, line.host)
        if line.fact is Fact.GUEST_RUNS:
            open_spans.setdefault(key, line)
        elif line.fact is Fact.GUEST_ENDS and key in open_spans:
            begin = open_spans.pop(key)
            span = Interval(host=line.host, start=begin.t, end=line.t, cause=begin.cause, ended_by=line.cause)
            spans.setdefault(line.vm, []).append(span)
    for (vm, host), begin in open_spans.items():
        spans.setdefault(vm, []).append(Interval(host=host, start=begin.t, end=None, cause=begin.cause))
    return {vm: sorted(spans[vm], key=lambda s: (s.start, s.host)) for vm in sorted(spans)}


def events(scenario: Scenario, logged: Iterable[Logged], refused: Iterable[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """The events of RESULT in order: the log's, and the acts of the timeline that were refused."""
    names = {vm.uuid: vm.id for vm in scenario.vms}
    shown = [_event(entry, names) for entry in logged]
    shown += [dict(act, type="refused") for act in refused]
    return sorted(shown, key=lambda event: event["t"])


def _event(entry: Logged, names: Mapping[str, str]) -> dict[str, Any]:
    read = _READERS.get(entry.kind)
    content = read(entry.detail, names) if read else dict(entry.detail)
    return {"t": entry.t, "type": TYPES.get(entry.kind, entry.kind), **content}


def _word(value: object) -> str:
    text = str(value or "")
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    return "" if text == "UNSPECIFIED" else text


def _host_state(detail: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "host": detail.get("host_id", ""),
        "from": _word(detail.get("old_state")),
        "to": _word(detail.get("new_state")),
        "reason": detail.get("reason", ""),
        "message": detail.get("message", ""),
    }


def _protection(detail: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {"from": _word(detail.get("old_state")), "to": _word(detail.get("new_state")), "reason": detail.get("reason", "")}


def _alarm(detail: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "reason": detail.get("reason", ""),
        "host": detail.get("host_id", ""),
        "vm": _vm_name(detail.get("vm_id", ""), names),
        "message": detail.get("message", ""),
        "cleared": bool(detail.get("cleared", False)),
    }


def _vm(detail: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    vm = detail.get("vm", {})
    return {
        "vm": _vm_name(vm.get("vm_id", ""), names),
        "host": detail.get("source_host_id", ""),
        "target": vm.get("target_host_id", ""),
        "step": _word(vm.get("step")),
        "outcome": _word(vm.get("outcome")),
        "reason": vm.get("reason", ""),
        "message": vm.get("message", ""),
        "evacuation": detail.get("evacuation_id", ""),
    }


def _evacuation(detail: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    evacuation = detail.get("evacuation", {})
    return {
        "host": evacuation.get("host_id", ""),
        "kind": _word(evacuation.get("kind")) or "EVACUATION",
        "state": _word(evacuation.get("state")),
        "proof": _word(evacuation.get("proof")),
        "reason": evacuation.get("reason", ""),
        "message": evacuation.get("message", ""),
        "evacuation": evacuation.get("evacuation_id", ""),
        **{name: int(evacuation.get(f"{name}_count", 0)) for name in _COUNTS},
    }


def _operator(detail: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "act": detail.get("act", ""),
        "subject": _vm_name(detail.get("subject", ""), names),
        "refused_reason": detail.get("refused_reason", ""),
        "message": detail.get("message", ""),
    }


def _vm_name(vm_id: str, names: Mapping[str, str]) -> str:
    return names.get(vm_id, vm_id)


_READERS: Final = {
    "host_state_change": _host_state,
    "protection_state_change": _protection,
    "alarm": _alarm,
    "vm_evacuation_change": _vm,
    "evacuation_state_change": _evacuation,
    "operator_act": _operator,
}
