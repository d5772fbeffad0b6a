"""Delta debugging: the smallest scenario that still breaks the same invariant. Pure but for what `breaks` does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Final

Raw = dict[str, Any]
Breaks = Callable[[Raw], bool]
TRIES: Final = 250
"""Runs that shrinking may take."""
_PLAIN: Final[Raw] = {"managers": 1, "start_s": 1.0, "migrate_s": 10.0, "groups": []}


class _Budget:
    """Asks `breaks`, at most so often, and never twice the same."""

    def __init__(self, breaks: Breaks, tries: int) -> None:
        self._breaks = breaks
        self.left = tries
        self._known: dict[str, bool] = {}

    def __call__(self, raw: Raw) -> bool:
        key = repr(raw)
        if key not in self._known:
            if self.left <= 0:
                return False
            self.left -= 1
            self._known[key] = self._breaks(raw)
        return self._known[key]


def shrink(raw: Raw, breaks: Breaks, tries: int | None = None) -> Raw:
    """The smallest scenario found for which `breaks` still says yes.

    Args:
        raw: A scenario that breaks.
        breaks: Whether a candidate breaks as the first one did; it has to take scenarios that are no longer valid.
        tries: Runs that it may take; None: TRIES.
    """
    ask = _Budget(breaks, TRIES if tries is None else tries)
    best = copy.deepcopy(raw)
    while ask.left > 0:
        before = repr(best)
        best = _fewer(best, "timeline", ask)
        for candidates in (_without_host, _without_vm, _plainer, _earlier_end, _rounder):
            best = _first_that_breaks(best, candidates, ask)
        if repr(best) == before:
            break
    return best


def _fewer(best: Raw, key: str, ask: _Budget) -> Raw:
    """ddmin over a list: leaves out ever smaller parts of it."""
    parts = 2
    while len(best[key]) >= 1 and ask.left > 0:
        size = max(1, len(best[key]) // parts)
        for start in range(0, len(best[key]), size):
            candidate = {**best, key: best[key][:start] + best[key][start + size :]}
            if ask(candidate):
                best, parts = candidate, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(best[key]), parts * 2)
    return best


def _first_that_breaks(best: Raw, candidates: Callable[[Raw], Iterator[Raw]], ask: _Budget) -> Raw:
    found = True
    while found and ask.left > 0:
        found = False
        for candidate in candidates(best):
            if candidate != best and ask(candidate):
                best, found = candidate, True
                break
    return best


def _without_host(raw: Raw) -> Iterator[Raw]:
    for host in reversed(raw["hosts"]):
        if len(raw["hosts"]) > 1:
            yield _drop_host(raw, host["id"])


def _drop_host(raw: Raw, name: str) -> Raw:
    gone = [vm["id"] for vm in raw.get("vms", []) if vm["host"] == name]
    smaller = raw
    for vm in gone:
        smaller = _drop_vm(smaller, vm)
    steps = [step for step in (_step_without(step, name) for step in smaller["timeline"]) if step is not None]
    return {**smaller, "hosts": [host for host in raw["hosts"] if host["id"] != name], "timeline": steps}


def _step_without(step: Raw, name: str) -> Raw | None:
    if name in {step.get("host"), step.get("from"), step.get("to")}:
        return None
    changed = dict(step)
    for key in ("hosts", "of"):
        if key in step:
            changed[key] = [host for host in step[key] if host != name]
            if not changed[key]:
                return None
    if "sides" in step:
        changed["sides"] = [[end for end in side if end != name] for side in step["sides"]]
        changed["sides"] = [side for side in changed["sides"] if side]
        if len(changed["sides"]) < 2:
            return None
    return changed


def _without_vm(raw: Raw) -> Iterator[Raw]:
    for vm in reversed(raw.get("vms", [])):
        yield _drop_vm(raw, vm["id"])


def _drop_vm(raw: Raw, name: str) -> Raw:
    groups = [{**group, "vms": [vm for vm in group["vms"] if vm != name]} for group in raw.get("groups", [])]
    return {
        **raw,
        "vms": [vm for vm in raw["vms"] if vm["id"] != name],
        "groups": [group for group in groups if group["vms"]],
        "timeline": [step for step in raw["timeline"] if step.get("vm") != name],
    }


def _plainer(raw: Raw) -> Iterator[Raw]:
    for key, value in _PLAIN.items():
        if key in raw and raw[key] != value:
            yield {**raw, key: value}
    for key in raw.get("cluster", {}):
        yield {**raw, "cluster": {name: value for name, value in raw["cluster"].items() if name != key}}
    for section in ("hosts", "vms"):
        for i, item in enumerate(raw.get(section, [])):
            for key in item:
                if key not in {"id", "host"}:
                    plain = {name: value for name, value in item.items() if name != key}
                    yield {**raw, section: [*raw[section][:i], plain, *raw[section][i + 1 :]]}


def _earlier_end(raw: Raw) -> Iterator[Raw]:
    last = max((step["at"] for step in raw["timeline"]), default=0)
    for until in (last + 1, last + 5, last + 15, last + 30):
        if until < raw["until"]:
            yield {**raw, "until": round(until, 3)}


def _rounder(raw: Raw) -> Iterator[Raw]:
    for digits in (0, 1):
        yield {**raw, "timeline": [{**step, "at": _round(step["at"], digits)} for step in raw["timeline"]]}
    for i, step in enumerate(raw["timeline"]):
        for digits in (0, 1):
            changed = {**step, "at": _round(step["at"], digits)}
            if changed != step:
                yield {**raw, "timeline": [*raw["timeline"][:i], changed, *raw["timeline"][i + 1 :]]}


def _round(value: float, digits: int) -> float:
    # A time that is round enough stays: otherwise 9.9 and 10.0 would follow each other for ever.
    return value if round(value, digits) == value else float(round(value, digits))
