"""From what an operator wrote about a cluster to its complete settings: profile, overrides, bounds.

The one place that knows what is absurd; the contract (`vmha.rpc.convert`) and the cluster file (`vmha.config`) both come here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from vmha import safety
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
TIMER_NAMES: Final = tuple(timer.name for timer in fields(Timers))
TIMER_COUNTS: Final = frozenset({"probe_misses", "lost_heartbeats"})
"""Among the timers, those that count instead of lasting."""
MAX_PROBE_MISSES: Final = 100
MAX_PARALLEL: Final = 1000
MAX_WATCHERS: Final = 64
MAX_OVERCOMMIT: Final = 1000.0
MAX_PATH: Final = 1024
DEFAULT_WATCHERS: Final = 5
DEFAULT_MAX_DOWN: Final = 1 / 3

_HIGHEST: Final[Mapping[str, float]] = {
    "max_down_fraction": 1.0,
    "reserve_fraction": 0.95,
    "cpu_overcommit": MAX_OVERCOMMIT,
    "parallel": MAX_PARALLEL,
    "parallel_per_target": MAX_PARALLEL,
    "watchers": MAX_WATCHERS,
}
_DIRECTORY: Final = re.compile(rf"(?!.*/\.\.?(?:/|\Z))/[-\w./+@:]{{1,{MAX_PATH - 1}}}", re.ASCII)
_BASE: Final = {Profile.STANDARD: STANDARD_TIMERS, Profile.FAST: FAST_TIMERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """A cluster's settings as an operator writes them; 0 takes the default (of the profile, for `parallel*`).

    Attributes:
        timers: Overrides by configuration name, in seconds (`TIMER_COUNTS`: a count).
    """

    profile: Profile = Profile.STANDARD
    timers: Mapping[str, float] = field(default_factory=dict)
    proof: ProofPolicy = ProofPolicy.LADDER
    self_fencing: SelfFencing = SelfFencing.DESTROY
    max_down_fraction: float = 0
    reserve_fraction: float = 0
    cpu_overcommit: float = 0
    parallel: int = 0
    parallel_per_target: int = 0
    watchers: int = 0
    image_directory: str = ""


def merge(wishes: Wishes, path: str = "config") -> ClusterConfig:
    """The complete settings.

    Args:
        wishes: What was written.
        path: What the fields' names start with in errors.

    Raises:
        InvalidField: Every setting that is out of bounds, by its path.
    """
    wrong = _timer_violations(wishes.timers, path) + _out_of_range(wishes, path) + _path_violations(wishes, path)
    if wrong:
        raise InvalidField(wrong)
    overrides: dict[str, Any] = _typed(wishes.timers)
    timers = replace(_BASE[wishes.profile], **overrides)
    if contradictions := _contradictions(timers, path):
        raise InvalidField(contradictions)
    parallel, parallel_per_target = PARALLEL[wishes.profile]
    return ClusterConfig(
        profile=wishes.profile,
        timers=timers,
        timer_overrides=overrides,
        proof=wishes.proof,
        self_fencing=wishes.self_fencing,
        max_down_fraction=wishes.max_down_fraction or DEFAULT_MAX_DOWN,
        reserve_fraction=wishes.reserve_fraction,
        cpu_overcommit=wishes.cpu_overcommit or 1.0,
        parallel=wishes.parallel or parallel,
        parallel_per_target=wishes.parallel_per_target or parallel_per_target,
        watchers=wishes.watchers or DEFAULT_WATCHERS,
        image_directory=wishes.image_directory,
    )


def _typed(overrides: Mapping[str, float]) -> dict[str, float]:
    return {name: int(value) if name in TIMER_COUNTS else float(value) for name, value in sorted(overrides.items())}


def _timer_violations(overrides: Mapping[str, float], path: str) -> list[FieldViolation]:
    wrong = []
    for name, value in overrides.items():
        where = f"{path}.timers.{name}"
        if name not in TIMER_NAMES:
            wrong.append(FieldViolation(where, f"unknown timer; there are {', '.join(TIMER_NAMES)}"))
        elif name in TIMER_COUNTS:
            if not (math.isfinite(value) and value == int(value) and 1 <= value <= MAX_PROBE_MISSES):
                wrong.append(FieldViolation(where, f"must be a whole number from 1 to {MAX_PROBE_MISSES}, is {value:g}"))
        elif not (SHORTEST_S <= value <= LONGEST_S or (value == 0 and name in MAY_BE_ZERO)):
            zero = "0 or " if name in MAY_BE_ZERO else ""
            wrong.append(FieldViolation(where, f"must be {zero}from {SHORTEST_S:g} s to {LONGEST_S:g} s, is {value:g} s"))
    return wrong


def _out_of_range(wishes: Wishes, path: str) -> list[FieldViolation]:
    return [
        FieldViolation(f"{path}.{name}", f"must be from 0 to {high:g}, is {value:g}")
        for name, high in _HIGHEST.items()
        if not 0 <= (value := getattr(wishes, name)) <= high
    ]


def _path_violations(wishes: Wishes, path: str) -> list[FieldViolation]:
    directory = wishes.image_directory
    if not directory or _DIRECTORY.fullmatch(directory):
        return []
    return [FieldViolation(f"{path}.image_directory", f"must be an absolute path of at most {MAX_PATH} plain characters")]


def _contradictions(timers: Timers, path: str) -> list[FieldViolation]:
    wrong = []
    if timers.stream_stale_s <= timers.heartbeat_interval_s:
        text = f"must be longer than heartbeat_interval_s ({timers.heartbeat_interval_s:g} s), is {timers.stream_stale_s:g} s"
        wrong.append(FieldViolation(f"{path}.timers.stream_stale_s", text))
    wrong += [
        FieldViolation(f"{path}.timers.{broken.field}", f"breaks {broken.inequality}: {broken.text}")
        for broken in safety.violations(timers)
    ]
    return wrong
