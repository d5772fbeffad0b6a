"""The guard: what holds a confirmation back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.manager.guard import COUNTED_DOWN, Guard
from vmha.model import HostState


def guard() -> Guard:
    return Guard(learning_until=0.0, enabled=True)


@pytest.mark.parametrize(("members", "limit"), [(2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (9, 3), (10, 3), (300, 100)])
def test_a_third_of_the_hosts_may_be_down_at_once(members: int, limit: int) -> None:
    """max(1, max_down_fraction x N), with the default of 1/3; 1 in a two-host cluster."""
    assert guard().limit(members) == limit
    assert guard().held(limit, members, 1.0) == ""
    assert guard().held(limit + 1, members, 1.0) == "MASS_FAILURE_HELD"


def test_in_a_two_host_cluster_one_host_may_be_down_whatever_the_fraction() -> None:
    """Both hosts silent at once is the network, or the manager."""
    both = Guard(learning_until=0.0, enabled=True, max_down_fraction=1.0)

    assert both.held(2, 2, 1.0) == "MASS_FAILURE_HELD"


def test_counted_from_suspect_on_and_not_when_evacuated() -> None:
    """Down counts from SUSPECT to EVACUATING; an EVACUATED host is settled and has left."""
    assert {HostState.SUSPECT, HostState.COOLDOWN, HostState.FENCE_PENDING, HostState.EVACUATING} <= COUNTED_DOWN
    assert HostState.EVACUATED not in COUNTED_DOWN and HostState.AGENT_LOST not in COUNTED_DOWN


def test_learning_holds_everything_until_it_is_over() -> None:
    """A manager that started, stood still or lost its store decides nothing for the learning time."""
    held = guard()
    held.learn(100.0, 150.0)

    assert held.held(1, 6, 249.9) == "LEARNING"
    assert held.held(1, 6, 250.0) == ""


def test_learning_is_never_cut_short() -> None:
    """A second reason to learn prolongs; a shorter setting does not shorten."""
    held = guard()
    held.learn(100.0, 150.0)
    held.learn(110.0, 5.0)

    assert held.held(1, 6, 200.0) == "LEARNING"


@pytest.mark.parametrize(
    ("enabled", "reachable", "members", "reason"),
    [(False, True, 6, "PROTECTION_OFF"), (True, True, 1, "PROTECTION_OFF"), (True, False, 6, "STORE_UNAVAILABLE")],
)
def test_disabled_waiting_or_without_a_store_nothing_is_confirmed(
    enabled: bool, reachable: bool, members: int, reason: str
) -> None:
    """S12's Disabled and Waiting confirm nothing; nor does a manager that cannot write it down."""
    assert Guard(learning_until=0.0, enabled=enabled, store_reachable=reachable).held(1, members, 1.0) == reason


@given(st.integers(2, 500), st.floats(0.01, 1.0), st.integers(0, 500))
def test_never_more_than_the_fraction(members: int, fraction: float, down: int) -> None:
    """Whatever the figures: what is let through is one host, or no more than the fraction."""
    let = Guard(learning_until=0.0, enabled=True, max_down_fraction=fraction)

    if not let.held(down, members, 1.0):
        assert down <= max(1.0, fraction * members + 1e-6)
