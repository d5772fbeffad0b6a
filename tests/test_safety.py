"""The inequalities of the safety protocol, at the edge of each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmha.cluster_config import Wishes, merge
from vmha.errors import InvalidField
from vmha.model import FAST_TIMERS, STANDARD_TIMERS, Profile, Timers
from vmha.safety import KAPPA, violations

BREAKING = {
    "I1": {"contact_ttl_s": 25.0},
    "I2": {"wait_duration_s": 141.0},
    "I3": {"lease_duration_s": 79.0},
    "I4": {"lost_heartbeats": 3},
    "I5": {"certificate_window_s": 10.9},
    "I6": {"destroy_s": 39.5},
}


@pytest.mark.parametrize("timers", [STANDARD_TIMERS, FAST_TIMERS])
def test_the_profiles_are_safe(timers: Timers) -> None:
    """Both sets of constants that users start from keep every inequality."""
    assert violations(timers) == []


@pytest.mark.parametrize(("inequality", "override"), BREAKING.items())
def test_each_inequality_is_refused_with_its_numbers(inequality: str, override: dict[str, float]) -> None:
    """A configuration that breaks one names the field, the inequality, and what it was compared with."""
    with pytest.raises(InvalidField) as refused:
        merge(Wishes(timers=override))

    texts = [(v.field, v.description) for v in refused.value.violations]
    assert len(texts) == 1
    field, text = texts[0]
    (broken,) = violations(replace(STANDARD_TIMERS, **override))  # type: ignore[arg-type]
    assert broken.inequality == inequality
    assert field == f"config.timers.{broken.field}"
    assert text.startswith(f"breaks {inequality}: {broken.field} >")
    for name, value in override.items():
        assert name in text
        assert f"{value:g}" in text


def test_a_bound_is_met_exactly() -> None:
    """Equality is enough, and 2 ms less is not: the comparison bears the last bit of a decimal, no more."""
    least = KAPPA * (STANDARD_TIMERS.lease_duration_s + STANDARD_TIMERS.kill_timeout_s) + STANDARD_TIMERS.tick_s

    assert violations(replace(STANDARD_TIMERS, wait_duration_s=least)) == []
    assert [v.inequality for v in violations(replace(STANDARD_TIMERS, wait_duration_s=least - 0.002))] == ["I2"]


def test_every_timer_of_the_fast_profile_that_matters_is_checked() -> None:
    """Making any single constant extreme is refused: none escapes the inequalities."""
    shrunk = {"attest_after_s", "lease_duration_s", "contact_ttl_s", "certificate_window_s", "kill_timeout_s", "wait_duration_s"}
    grown = {"relay_after_s", "ack_max_age_s", "request_interval_s", "round_trip_s", "tick_s", "destroy_s", "watchdog_s"}
    for name in sorted(shrunk | grown):
        with pytest.raises(InvalidField):
            merge(Wishes(profile=Profile.FAST, timers={name: 0.06 if name in shrunk else 40.0}))
