"""Tests of vmha.agent.watchdog: when the host's watchdog may be fed (R10)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.agent_state import FAST, leased
from vmha.agent.lease_events import Kept
from vmha.agent.watchdog import MARGIN_S, Device, guard_end, is_quick_enough, may_feed

DEVICE = Device(timeout_s=2.0, reset_s=0.5)
UNTIL = 107.6
KEPT = leased(17, lasts_s=7.6, now=100.0)
LAST = UNTIL + FAST.kill_timeout_s - 2.0 - 0.5 - MARGIN_S
"""From here on a feeding would let the host live longer than T_kill after its guard's end."""


def fed(kept: Kept | None, now: float, *, alive: bool = True, found_at: float = float("inf")) -> bool:
    return may_feed(kept, vms_alive=alive, found_at=found_at, device=DEVICE, now=now)


@pytest.mark.parametrize("kept", [KEPT, replace(KEPT, latched=True)])
def test_r10_a_host_whose_guard_has_ended_is_reset_in_time(kept: Kept) -> None:
    """Fed while the guard holds and while its agent may still stop the VMs; not so late that the reset comes after T_kill."""
    assert fed(kept, LAST - 0.01)
    assert not fed(kept, LAST)
    last_feeding = LAST - 1e-9
    assert last_feeding + DEVICE.timeout_s + DEVICE.reset_s <= UNTIL + FAST.kill_timeout_s - MARGIN_S


def test_r10_a_host_without_vms_is_never_reset() -> None:
    """An agent that stalled with nothing to stop harms nobody."""
    assert fed(KEPT, 10_000.0, alive=False)
    assert fed(replace(KEPT, latched=True, vms_gone=True), 10_000.0, alive=False)


@pytest.mark.parametrize("kept", [replace(KEPT, cert_until=500.0), replace(KEPT, carried_until=500.0)])
def test_r10_any_guard_counts(kept: Kept) -> None:
    """A certificate and what is left of an earlier registration's guard hold like a lease."""
    assert guard_end(kept) == 500.0
    assert fed(kept, 499.0)
    assert not fed(kept, 510.0)


OFF = replace(KEPT, config=replace(FAST, enforced=False))


@pytest.mark.parametrize("kept", [None, Kept(), Kept(config=FAST, incarnation=3), OFF])
def test_a_host_that_promised_nothing_is_not_reset(kept: Kept | None) -> None:
    """No record, no lease yet, protection off, or self-fencing off."""
    assert fed(kept, 10_000.0)


def test_r9_vms_whose_guard_is_not_known_get_the_time_for_stopping_them() -> None:
    """The record is lost: T_kill counts from when the VMs were found."""
    lost = Kept(latched=True, config=FAST)

    assert fed(lost, 500.5, found_at=500.0)
    assert not fed(lost, 501.5, found_at=500.0)


def test_a_watchdog_that_is_too_slow_is_said_to_be_so() -> None:
    """I6: timeout, reset and margin must fit into T_kill."""
    assert is_quick_enough(DEVICE, 4.0)
    assert is_quick_enough(DEVICE, 3.0)
    assert not is_quick_enough(DEVICE, 2.9)
