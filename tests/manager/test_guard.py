"""What holds a confirmation back although the evidence is there."""

from __future__ import annotations

import pytest

from vmha.manager.guard import COUNTED_DOWN, Guard
from vmha.model import HostState


@pytest.mark.parametrize(
    ("fraction", "members", "limit"),
    [
        (1 / 3, 2, 1),
        (1 / 3, 3, 1),
        (1 / 3, 5, 1),
        (1 / 3, 6, 2),
        (1 / 3, 9, 3),
        (1 / 3, 100, 33),
        (0.5, 2, 1),
        (0.1, 5, 1),
        (1.0, 8, 8),
    ],
)
def test_how_many_may_be_down(fraction: float, members: int, limit: int) -> None:
    """max(1, max_down_fraction x N); in a two-host cluster 1; thirds of a multiple of three are not lost to rounding."""
    assert Guard(0.0, max_down_fraction=fraction).limit(members) == limit


@pytest.mark.parametrize(
    ("changes", "down", "members", "held"),
    [
        ({}, 1, 3, ""),
        ({}, 2, 3, "MASS_FAILURE_HELD"),
        ({"enabled": False}, 1, 3, "PROTECTION_OFF"),
        ({}, 1, 1, "PROTECTION_OFF"),
        ({"store_reachable": False}, 1, 3, "STORE_UNAVAILABLE"),
        ({"learning_until": 11.0}, 1, 3, "LEARNING"),
        ({"learning_until": 10.0}, 1, 3, ""),
    ],
)
def test_b03_what_is_held_and_why(changes: dict[str, object], down: int, members: int, held: str) -> None:
    """Each reason by name; nothing is held where there is none."""
    guard = Guard(**{"learning_until": 0.0, "enabled": True} | changes)  # type: ignore[arg-type]

    assert guard.held(down, members, 10.0) == held


def test_learning_is_never_shortened() -> None:
    """A second reason to learn only ever lengthens it."""
    guard = Guard(100.0)

    guard.learn(0.0, 50.0)
    assert guard.learning_until == 100.0
    guard.learn(60.0, 50.0)
    assert guard.learning_until == 110.0


def test_who_counts_as_down() -> None:
    """From SUSPECT on until the evacuation is over; an evacuated host has left, one whose agent is lost lives."""
    assert set(HostState) - COUNTED_DOWN == {
        HostState.UNKNOWN,
        HostState.HEALTHY,
        HostState.IN_MAINTENANCE,
        HostState.AGENT_LOST,
        HostState.ISOLATED,
        HostState.EVACUATED,
    }
