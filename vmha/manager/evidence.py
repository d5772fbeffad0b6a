"""Core: the evidence on a host in words and figures, for people (B5)."""

from __future__ import annotations

from dataclasses import dataclass

from vmha.manager.hostview import LONG_AGO, HostView
from vmha.manager.votes import Tally
from vmha.model import HostState, PeerVerdict

SUMMARIES = {
    HostState.UNKNOWN: "Configured, and its agent was not heard of since this manager watches; its first heartbeat ends this.",
    HostState.HEALTHY: "Its agent's heartbeats arrive.",
    HostState.IN_MAINTENANCE: "Healthy, and out of service by an operator's word: no target, but recovered when it dies.",
    HostState.ISOLATED: "Only heartbeats that peers relay arrive; its guests are left alone.",
    HostState.AGENT_LOST: "Its heartbeats are gone, but somebody reaches its kernel: its guests are left alone.",
    HostState.SUSPECT: "A quorum of its peers and this manager meet silence; the cooldown follows.",
    HostState.COOLDOWN: "Silent, and the cooldown runs: a sign of life clears it, its end confirms it.",
    HostState.DOWN: "Confirmed: it was silent to the end of the cooldown. The proof of its death follows.",
    HostState.FENCING: "The proof of its death is being made.",
    HostState.FENCE_PENDING: "Confirmed down, but not proven off: no guest is started. Fix the fence, or confirm-off.",
    HostState.FENCED: "Proven dead; its guests may be started elsewhere.",
    HostState.EVACUATING: "Its guests are being started elsewhere.",
    HostState.EVACUATED: "Each of its guests is settled; it has not come back.",
}


PLANNED = "It said that it shuts down: its silence is no suspicion until the planned grace is over."


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvidence:
    """Why a host is in its state.

    Attributes:
        silent_s: Seconds without a sign of life; None while its stream is fresh.
        probe_age_s: Age of the manager's own probe; None where there is none.
        confirm_in_s: Seconds left of the cooldown; None when none runs.
        held: Why nothing is confirmed though the cooldown is over; empty when nothing is held.
    """

    state: HostState
    summary: str
    silent_s: float | None
    tally: Tally
    quorum: int
    probe: PeerVerdict | None
    probe_age_s: float | None
    confirm_in_s: float | None
    held: str


def sentence(host: HostView, tally: Tally, quorum: int, now: float) -> str:
    """The evidence on a silent host in one line: who saw what, how long ago."""
    words = [
        f"{c.vote.reporter_id}: {c.vote.verdict.lower()} x{c.vote.consecutive_count} {now - c.vote.seen_at:.1f} s ago"
        + (f" ({c.discredit})" if c.discredit else "")
        for c in tally.votes
    ]
    probe = f"own probe: {host.probe.lower()} {now - host.probed_at:.1f} s ago" if host.probe else "own probe: none yet"
    silent = f"no heartbeat for {now - host.quiet_since:.1f} s"
    if host.last_heard_at != LONG_AGO:
        silent = f"last heartbeat {now - host.last_heard_at:.1f} s ago"
    return f"{', '.join(words) or 'no votes'} (quorum {quorum}); {probe}; {silent}"
