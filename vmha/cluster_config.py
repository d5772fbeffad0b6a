"""From what an operator wrote about a cluster to its complete settings: profile, overrides, bounds.

The one place that knows what is absurd; the contract (`vmha.rpc.convert`) and the cluster file (`vmha.config`) both come here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final

from vmha.errors import FieldViolation, InvalidField
from vmha.model import (
    FAST_TIMERS,
    PARALLEL,
    STANDARD_TIMERS,
    ClusterConfig,
    Profile,
    ProofPolicy,
    SelfFencing,
    Timers,
)

SHORTEST_S: Final = 0.05
LONGEST_S: Final = 86_400.0
MAY_BE_ZERO: Final = frozenset({"cooldown_s", "learning_s"})
TIMER_NAMES: Final = tuple(field.name for field in fields(Timers))
MAX_PROBE_MISSES: Final = 100
MAX_PARALLEL: Final = 1000
MAX_WATCHERS: Final = 64
MAX_OVERCOMMIT: Final = 1000.0
DEFAULT_WATCHERS: Final = 5
DEFAULT_MAX_DOWN: Final = 1 / 3

_BASE: Final = {Profile.STANDARD: STANDARD_TIMERS, Profile.FAST: FAST_TIMERS}


def merge(
    *,
    profile: Profile = Profile.STANDARD,
    timers: Mapping[str, float] | None = None,
    proof: ProofPolicy = ProofPolicy.LADDER,
    self_fencing: SelfFencing = SelfFencing.DESTROY,
    max_down_fraction: float = 0,
    reserve_fraction: float = 0,
    cpu_overcommit: float = 0,
    parallel: int = 0,
    parallel_per_target: int = 0,
    watchers: int = 0,
    path: str = "config",
) -> ClusterConfig:
    """The complete settings; 0 takes the default (of the profile, for `parallel*`).

    Args:
        timers: Overrides by configuration name, in seconds (`probe_misses`: a count).
        path: What the fields' names start with in errors.

    Raises:
        InvalidField: Every setting that is out of bounds, by its path.
    """
    overrides = dict(timers or {})
    wrong = _timer_violations(overrides, path)
    wrong += _out_of_range(
        path,
        ("max_down_fraction", max_down_fraction, 0.0, 1.0),
        ("reserve_fraction", reserve_fraction, 0.0, 0.95),
        ("cpu_overcommit", cpu_overcommit, 0.0, MAX_OVERCOMMIT),
        ("parallel", parallel, 0, MAX_PARALLEL),
        ("parallel_per_target", parallel_per_target, 0, MAX_PARALLEL),
        ("watchers", watchers, 0, MAX_WATCHERS),
    )
    if wrong:
        raise InvalidField(wrong)
    typed: dict[str, Any] = _typed(overrides)
    complete = replace(_BASE[profile], **typed)
    if contradictions := _contradictions(complete, path):
        raise InvalidField(contradictions)
    return ClusterConfig(
        profile=profile,
        timers=complete,
        timer_overrides=typed,
        proof=proof,
        self_fencing=self_fencing,
        max_down_fraction=max_down_fraction or DEFAULT_MAX_DOWN,
        reserve_fraction=reserve_fraction,
        cpu_overcommit=cpu_overcommit or 1.0,
        parallel=parallel or PARALLEL[profile][0],
        parallel_per_target=parallel_per_target or PARALLEL[profile][1],
        watchers=watchers or DEFAULT_WATCHERS,
    )


def _typed(overrides: Mapping[str, float]) -> dict[str, float]:
    return {name: int(value) if name == "probe_misses" else float(value) for name, value in sorted(overrides.items())}


def _timer_violations(overrides: Mapping[str, float], path: str) -> list[FieldViolation]:
    wrong = []
    for name, value in overrides.items():
        field = f"{path}.timers.{name}"
        if name not in TIMER_NAMES:
            wrong.append(FieldViolation(field, f"unknown timer; there are {', '.join(TIMER_NAMES)}"))
        elif name == "probe_misses":
            if not (math.isfinite(value) and value == int(value) and 1 <= value <= MAX_PROBE_MISSES):
                wrong.append(FieldViolation(field, f"must be a whole number from 1 to {MAX_PROBE_MISSES}, is {value:g}"))
        elif not (SHORTEST_S <= value <= LONGEST_S or (value == 0 and name in MAY_BE_ZERO)):
            zero = "0 or " if name in MAY_BE_ZERO else ""
            wrong.append(FieldViolation(field, f"must be {zero}from {SHORTEST_S:g} s to {LONGEST_S:g} s, is {value:g} s"))
    return wrong


def _out_of_range(path: str, *rows: tuple[str, float, float, float]) -> list[FieldViolation]:
    return [
        FieldViolation(f"{path}.{name}", f"must be from {low:g} to {high:g}, is {value:g}")
        for name, value, low, high in rows
        if not low <= value <= high
    ]


def _contradictions(timers: Timers, path: str) -> list[FieldViolation]:
    wrong = []
    if timers.stream_stale_s <= timers.heartbeat_interval_s:
        text = f"must be longer than heartbeat_interval_s ({timers.heartbeat_interval_s:g} s), is {timers.stream_stale_s:g} s"
        wrong.append(FieldViolation(f"{path}.timers.stream_stale_s", text))
    return wrong
