"""expected.json of a scenario against the run's RESULT (docs/simulator.md, "Scenarios in the tests")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Result = Mapping[str, Any]


def differences(result: Result, expected: Mapping[str, Any], until: float) -> list[str]:
    """What the run does not show although it should, in words; KeyError for a key that is no expectation."""
    found = [text for key, value in expected.items() for text in _CHECKS[key](result, value, until)]
    if not expected.get("violations"):
        found += [f"violation at {v['t']} s: {v['message']}" for v in result["violations"]]
    return found


def _final(result: Result, value: Mapping[str, Any], until: float) -> Iterator[str]:
    yield from _differs(value, result["final"], "final")


def _differs(wanted: Any, got: Any, place: str) -> Iterator[str]:
    if isinstance(wanted, Mapping):
        for key, item in wanted.items():
            yield from _differs(item, got.get(key) if isinstance(got, Mapping) else None, f"{place}.{key}")
    elif wanted != got:
        yield f"{place} is {got!r}, expected {wanted!r}"


def _is(event: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    fields = {key: value for key, value in wanted.items() if key not in {"after", "before"}}
    within = wanted.get("after", 0.0) <= event["t"] <= wanted.get("before", float("inf"))
    return within and all(event.get(key) == value for key, value in fields.items())


def _events(result: Result, value: list[Mapping[str, Any]], until: float) -> Iterator[str]:
    rest = iter(result["events"])
    for wanted in value:
        if not any(_is(event, wanted) for event in rest):
            yield f"no event {dict(wanted)}, in this order"
            return


def _no_events(result: Result, value: list[Mapping[str, Any]], until: float) -> Iterator[str]:
    for unwanted in value:
        yield from (f"an event {event}" for event in result["events"] if _is(event, unwanted))


def _occupancy(result: Result, value: Mapping[str, list[str]], until: float) -> Iterator[str]:
    for vm, hosts in value.items():
        got = [span["host"] for span in result["occupancy"].get(vm, [])]
        if got != hosts:
            yield f"{vm} ran on {got}, expected {hosts}"


def _untouched(result: Result, value: list[str], until: float) -> Iterator[str]:
    for vm in value:
        spans = result["occupancy"].get(vm, [])
        if len(spans) != 1 or spans[0]["from"] != 0.0 or spans[0]["to"] is not None:
            yield f"{vm} was touched: {spans}"


def _gap_s(result: Result, value: Mapping[str, list[float]], until: float) -> Iterator[str]:
    for vm, (least, most) in value.items():
        spans = result["occupancy"].get(vm, [])
        if len(spans) < 2:
            yield f"{vm} has no second interval: {spans}"
        elif not least <= spans[1]["from"] - spans[0]["to"] <= most:
            yield f"{vm} was away for {spans[1]['from'] - spans[0]['to']:.3f} s, expected {least} to {most}"


def _ends(result: Result, value: Mapping[str, list[float]], until: float) -> Iterator[str]:
    for vm, (earliest, latest) in value.items():
        spans = result["occupancy"].get(vm, [])
        end = spans[0]["to"] if spans else None
        if end is None or not earliest <= end <= latest:
            yield f"{vm} ended at {end}, expected {earliest} to {latest}"


def _violations(result: Result, value: bool, until: float) -> Iterator[str]:
    if value and not result["violations"]:
        yield "no violation, and some were expected"


_CHECKS: Final[Mapping[str, Callable[[Result, Any, float], Iterator[str]]]] = {
    "final": _final,
    "events": _events,
    "no_events": _no_events,
    "occupancy": _occupancy,
    "untouched": _untouched,
    "gap_s": _gap_s,
    "ends": _ends,
    "violations": _violations,
}
EXPECTATIONS: Final = tuple(_CHECKS)
