"""Does a host's clock run as fast as ours?"""

from __future__ import annotations

import random

import pytest

from vmha.manager.clock_check import ANCHOR_S, SUSPECT_S, ClockCheck

WHILE_S, SLACK_S = 6.0, 0.5


def beats(check: ClockCheck, start: float, seconds: float, rate: float = 1.0, late: float = 0.0, seed: int = 1) -> list[float]:
    """Heartbeats of half a second; when the clock was found wrong. Each is held up by up to `late` seconds."""
    rng = random.Random(seed)
    found = []
    for number in range(int(seconds * 2)):
        sent = start + number / 2
        now = sent + rng.random() * late
        if check.note(9000.0 + start + (sent - start) * rate, now, while_s=WHILE_S, slack_s=SLACK_S):
            found.append(now)
    return found


@pytest.mark.parametrize("rate", [1.0, 0.9991, 1.0009])
def test_a_clock_within_rho_is_never_found_wrong(rate: float) -> None:
    """A day of drift within rho, on ways of up to 0.3 s."""
    check = ClockCheck()

    assert beats(check, 100.0, 86_400.0, rate, late=0.3) == []
    assert check.is_sane(86_500.0, SLACK_S)


@pytest.mark.parametrize(("rate", "within_s"), [(0.5, 15.0), (0.9, 20.0), (0.99, 90.0), (1.1, 20.0), (0.995, 200.0)])
def test_a_wrong_rate_is_found(rate: float, within_s: float) -> None:
    """The further off, the sooner; and it is not believed for an hour after it was found."""
    check = ClockCheck()
    found = beats(check, 100.0, within_s, rate)

    assert found and check.ran_fast is (rate > 1)
    assert not check.is_sane(found[-1] + SUSPECT_S - 1, SLACK_S)


def test_an_old_anchor_does_not_hide_a_new_fault() -> None:
    """After days of good time a clock that begins to run slow is found as soon as on the first day."""
    check = ClockCheck()
    assert beats(check, 0.0, 20 * ANCHOR_S) == []
    begin = 20 * ANCHOR_S
    found = [
        at
        for number in range(100)
        if check.note(9000.0 + begin + number / 2 * 0.9, at := begin + number / 2, while_s=WHILE_S, slack_s=SLACK_S)
    ]

    assert found and found[0] - begin < 30


def test_what_arrived_after_a_stall_says_nothing() -> None:
    """Forgotten: neither the late ones nor those from before are compared with."""
    check = ClockCheck()
    beats(check, 0.0, 60.0)
    check.forget()
    for number in range(10):
        check.note(9000.0 + 60 + number / 2, 70.0, while_s=WHILE_S, slack_s=SLACK_S)
    assert beats(check, 70.0, 60.0, seed=2) == []
    assert check.is_sane(131.0, SLACK_S)


def test_s13_a_reading_says_what_was_gained_and_over_how_long() -> None:
    """For people: nothing before it was compared; then the gain against the anchor, and whether the clock is believed."""
    check = ClockCheck()
    early = check.reading(100.0, SLACK_S)
    beats(check, 100.0, 120.0, rate=1.0005)
    fine = check.reading(220.0, SLACK_S)
    wrong = ClockCheck()
    beats(wrong, 100.0, 30.0, rate=0.9)

    assert (early.sane, early.over_s, early.gained_s) == (True, 0.0, 0.0)
    assert fine.sane
    assert fine.gained_s / fine.over_s == pytest.approx(0.0005, rel=0.1)
    assert not wrong.reading(130.0, SLACK_S).sane
