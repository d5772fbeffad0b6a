"""Tests of vmha.agent.link: agents that lose their manager together do not come back together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vmha.agent.link import LEAST_BACKOFF_S, MOST_BACKOFF_S, Link


def pauses(heartbeat_interval_s: float, attempts: int, agents: int = 400, managers: int = 1) -> list[list[float]]:
    """The pauses of many agents after each failed session."""
    found: list[list[float]] = [[] for _ in range(attempts)]
    for _ in range(agents):
        identity = SimpleNamespace(
            heartbeat_interval_s=heartbeat_interval_s, metrics=None, keeper=SimpleNamespace(is_lapsed=False)
        )
        desk: Any = SimpleNamespace(identity=identity, prober=SimpleNamespace(), relays=SimpleNamespace())
        link = Link(desk, [f"m{number}:1" for number in range(managers)], SimpleNamespace())
        for attempt in found:
            attempt.append(link._pause())
    return found


@pytest.mark.parametrize(("interval_s", "most_s"), [(5.0, MOST_BACKOFF_S), (0.5, 2.0), (30.0, 30.0)])
def test_attempts_are_spread_over_the_heartbeat_interval_and_then_more(interval_s: float, most_s: float) -> None:
    """The first over one interval: a manager that takes over gets no more sessions a second than heartbeats. All are bounded."""
    first, *_, last = pauses(interval_s, 8)

    for tenth in range(10):
        low, high = interval_s * tenth / 10, interval_s * (tenth + 1) / 10
        assert sum(low <= pause < high for pause in first) < len(first) / 4, "a quarter of all agents within a tenth of the time"
    assert min(first) >= LEAST_BACKOFF_S
    assert max(first) <= interval_s
    assert 0.9 * most_s < max(last) <= most_s


def test_a_dead_manager_does_not_keep_an_agent_from_the_living_ones() -> None:
    """All managers are tried one soon after the other; only then comes the long pause, in which a crowd disperses."""
    found = pauses(2.0, 6, managers=3)

    for place, attempt in enumerate(found):
        if place % 3 == 2:
            assert max(attempt) > 1.0
        else:
            assert set(attempt) == {LEAST_BACKOFF_S}
