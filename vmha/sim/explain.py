"""A readable account of a run: faults, states, proofs, starts, occupancy, line by line with times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vmha.sim.history import Fact, Line
from vmha.sim.runner import Outcome

_QUIET: Final = frozenset({Fact.GUEST_CREATED, Fact.GUEST_DROPPED, Fact.OPENED})
"""Facts that only the full account tells."""
_DETAILED: Final = frozenset({"vm", "evacuation"})
"""Events that only the full account tells step by step."""
_TELLS: Final[Mapping[Fact, str]] = {
    Fact.HOST_UP: "{host} has power",
    Fact.HOST_DOWN: "{host} loses power ({cause})",
    Fact.AGENT_UP: "the agent of {host} runs",
    Fact.AGENT_DOWN: "the agent of {host} is gone",
    Fact.GUEST_CREATED: "{vm} is created on {host} and executes nothing yet ({cause})",
    Fact.GUEST_RUNS: "{vm} runs on {host} ({cause})",
    Fact.GUEST_ENDS: "{vm} ends on {host} ({cause})",
    Fact.GUEST_DROPPED: "{vm}, which executed nothing, is taken back from {host}",
    Fact.LOCKED: "{vm} is refused on {host}: its disks are in use elsewhere",
    Fact.SELF_FENCED: "{host} fences itself: its guard has expired",
    Fact.CERTIFIED: "{host} keeps its guests by an outage certificate",
    Fact.CUT: "{host} is cut off from the leader",
    Fact.JOINED: "{host} reaches the leader again",
    Fact.MANAGER_UP: "manager {manager} runs",
    Fact.MANAGER_DOWN: "manager {manager} is gone",
    Fact.LEADS: "manager {manager} leads, term {term}",
    Fact.EVAC_UP: "the evacuator runs",
    Fact.EVAC_DOWN: "the evacuator is gone",
    Fact.STORE_DOWN: "the store is down",
    Fact.STORE_UP: "the store is up",
    Fact.STORE_LOST: "the store is empty",
    Fact.OPENED: "an incident of {host} is opened",
    Fact.OFF_BY_OPERATOR: "an operator says that {host} is off",
}


def account(outcome: Outcome, *, full: bool = False) -> str:
    """The account; `full` adds every step of every VM."""
    scenario = outcome.truth.scenario
    lines = [f"{scenario.name}: {len(scenario.hosts)} hosts, {len(scenario.vms)} VMs, until {scenario.until:g} s", ""]
    told = [*_facts(outcome, full), *_events(outcome, full), *_broken(outcome)]
    lines += [f"{t:>10.3f}  {sign} {text}" for t, _, sign, text in sorted(told, key=lambda item: item[:2])]
    lines += ["", "Where each VM ran:", *_spans(outcome), "", "In the end:", *_final(outcome), ""]
    lines += [f"{len(outcome.violations)} violations"]
    return "\n".join(lines) + "\n"


def _facts(outcome: Outcome, full: bool) -> Iterator[tuple[float, int, str, str]]:
    for line in outcome.truth.lines:
        if line.fact is Fact.ACT:
            yield line.t, 0, "!", _act(line)
        elif full or line.fact not in _QUIET:
            values = {"manager": "?", "term": "?", **line.detail, "host": line.host, "vm": line.vm, "cause": line.cause}
            yield line.t, 1, " ", _TELLS[line.fact].format(**values).replace(" ()", "")


def _act(line: Line) -> str:
    named = {"host": line.host, "vm": line.vm, **line.detail}
    shown = ", ".join(f"{key} {_plain(value)}" for key, value in named.items() if value not in ("", None))
    return f"{line.cause} {shown}".rstrip()


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return (
            " | ".join(_plain(item) for item in value)
            if value and isinstance(value[0], list | tuple)
            else "+".join(map(str, value))
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _events(outcome: Outcome, full: bool) -> Iterator[tuple[float, int, str, str]]:
    for event in outcome.truth.events:
        if full or event["type"] not in _DETAILED:
            yield event["t"], 2, ">", _event(event)


def _event(event: Mapping[str, Any]) -> str:
    match event["type"]:
        case "host_state":
            text = f"{event['host']}: {event['from']} -> {event['to']} ({event['reason']})"
        case "alarm":
            about = " ".join(filter(None, (event["host"], event["vm"])))
            text = f"alarm {event['reason']} {about}" + (" is over" if event["cleared"] else "")
        case "protection":
            text = f"protection {event['from']} -> {event['to']} ({event['reason']})"
        case "vm":
            said = " ".join(filter(None, (event["step"], event["outcome"], event["reason"])))
            text = f"{event['vm']} of {event['host']}: {said}" + (f" on {event['target']}" if event["target"] else "")
        case "evacuation":
            text = f"evacuation of {event['host']}: {event['state']} {event['proof']} {event['reason']}".rstrip()
        case "refused":
            text = f"refused: {event['do']} ({event['reason']})"
        case _:
            return str({key: value for key, value in event.items() if key != "t"})
    message = event.get("message", "")
    return f"{text}: {message}" if message else text


def _broken(outcome: Outcome) -> Iterator[tuple[float, int, str, str]]:
    for violation in outcome.violations:
        yield violation.t, 3, "X", f"VIOLATION {violation.invariant}: {violation.message}"


def _spans(outcome: Outcome) -> Iterator[str]:
    for vm, spans in outcome.truth.occupancy.items():
        shown = [f"{s.host} {s.start:.3f}-{'' if s.end is None else format(s.end, '.3f')}" for s in spans if s.start != s.end]
        yield f"  {vm}: {', '.join(shown)}"


def _final(outcome: Outcome) -> Iterator[str]:
    final = outcome.truth.final
    yield f"  cluster {final['cluster']}"
    for host, state in final["hosts"].items():
        yield f"  {host} {state}"
    for vm, state in final["vms"].items():
        yield f"  {vm} {state['state']} on {state['host']}, {state['outcome']} {state['reason']}".rstrip()
