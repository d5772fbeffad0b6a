"""Core: the inequalities that make the safety protocol's constants safe together (docs/safety.md; safety.md section 2, I1 to I6).

They are checked whenever a configuration is loaded: a set that breaks one is refused, with the inequality and its numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vmha.model import Timers

RHO: Final = 0.001
"""The largest drift of any clock against real time that the protocol bears: 1 ms a second, ten times a poor crystal's."""
KAPPA: Final = (1 + RHO) / (1 - RHO)
"""How much longer a span may be on one clock than on another."""
REQUEST_ROUNDS: Final = 2
"""Full rounds of requests to the peers that fit into one certificate (I5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenInequality:
    """An inequality that does not hold.

    Attributes:
        inequality: Its name, I1 to I6.
        field: The timer to change, by configuration name: the one on the inequality's greater side.
        text: The inequality by configuration names, and with its numbers.
    """

    inequality: str
    field: str
    text: str


def violations(timers: Timers) -> list[BrokenInequality]:
    """The inequalities that a set of constants breaks; empty when it is safe.

    Args:
        timers: The complete timers of a cluster.
    """
    return [
        BrokenInequality(inequality=name, field=field, text=_text(timers, field, sign, bound, least))
        for name, field, sign, bound, least in _bounds(timers)
        if not _holds(getattr(timers, field), sign, least)
    ]


def _bounds(t: Timers) -> list[tuple[str, str, str, str, float]]:
    """Each inequality: its name, the timer on its greater side, the sign, the other side in words and in seconds."""
    k = KAPPA
    overlap_s = t.certificate_window_s + t.contact_ttl_s
    outage_s = t.relay_after_s + t.heartbeat_interval_s + t.ack_max_age_s + t.attest_after_s
    outage_s += 2 * t.request_interval_s + t.round_trip_s + t.tick_s
    silence_s = max(t.lease_duration_s, t.certificate_window_s) + t.kill_timeout_s
    contact_s = (2 + t.lost_heartbeats) * t.heartbeat_interval_s + t.round_trip_s
    rounds_s = REQUEST_ROUNDS * t.request_interval_s + t.round_trip_s
    return [
        ("I1", "attest_after_s", ">=", "kappa * (certificate_window_s + contact_ttl_s)", k * overlap_s),
        (
            "I2",
            "wait_duration_s",
            ">=",
            "kappa * (max(lease_duration_s, certificate_window_s) + kill_timeout_s) + tick_s",
            k * silence_s + t.tick_s,
        ),
        (
            "I3",
            "lease_duration_s",
            ">",
            "kappa * (relay_after_s + heartbeat_interval_s + ack_max_age_s + attest_after_s"
            " + 2 * request_interval_s + round_trip_s + tick_s)",
            k * outage_s,
        ),
        ("I4", "contact_ttl_s", ">=", "(2 + lost_heartbeats) * heartbeat_interval_s + round_trip_s", contact_s),
        ("I5", "certificate_window_s", ">=", f"{REQUEST_ROUNDS} * request_interval_s + round_trip_s", rounds_s),
        ("I6", "kill_timeout_s", ">=", "max(tick_s + destroy_s, watchdog_s)", max(t.tick_s + t.destroy_s, t.watchdog_s)),
    ]


def _text(timers: Timers, field: str, sign: str, bound: str, least: float) -> str:
    names = dict.fromkeys(re.findall(r"[a-z_]+_s\b|lost_heartbeats", bound))
    numbers = ", ".join(f"{name} {getattr(timers, name):g}" for name in names)
    return f"{field} {sign} {bound} does not hold: {getattr(timers, field):g} {sign} {least:.6g} is false with {numbers}"


def _holds(value: float, sign: str, least: float) -> bool:
    # Written as decimals by people: 4.0 is not less than 0.5 + 3.5 for a last bit's sake.
    return value > least + 1e-9 if sign == ">" else value >= least - 1e-9
