"""Core: the table of design section 4 as one pure function. Hold it against docs/detection.md, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vmha.manager.votes import ALIVE, Tally
from vmha.model import PeerVerdict

SCOUTS = 5
"""Further peers that are asked where votes contradict one another."""
SCOUT_SHARE = 0.8
"""Share of the scouts that must meet silence."""


class Finding(StrEnum):
    """What the evidence on a host with a stale stream amounts to."""

    AGENT_LOST = "AGENT_LOST"
    """Somebody reaches its kernel: only the agent's stream is gone."""
    SUSPECT = "SUSPECT"
    """A quorum meets silence, nobody meets life, and neither do we."""
    SCOUT = "SCOUT"
    """The votes contradict one another: ask more peers."""
    UNCONFIRMABLE = "UNCONFIRMABLE"
    """Too few credible reporters for a quorum."""
    HOLD = "HOLD"
    """Not enough is known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scouting:
    """What the credible ones of the scouts met; `ended` when no more answers are waited for."""

    asked: int
    timeouts: int = 0
    alive: int = 0
    ended: bool = False

    @property
    def silent(self) -> bool:
        """Whether enough of them met silence. Who did not answer is no witness for it."""
        return self.asked > 0 and self.timeouts >= SCOUT_SHARE * self.asked


def find(tally: Tally, quorum: int, own_probe: PeerVerdict | None, scouting: Scouting | None) -> Finding:
    """Judge a host whose stream is stale.

    Args:
        tally: The watchers' votes.
        quorum: Credible reporters that a verdict needs.
        own_probe: The manager's own fresh probe; None while there is none.
        scouting: What the scouts met; None while none were sent.
    """
    if own_probe is PeerVerdict.OK or own_probe in ALIVE:
        return Finding.AGENT_LOST
    if tally.alive or tally.ups >= 2 or (tally.ups and not tally.timeouts and not tally.pending):
        return Finding.AGENT_LOST
    if own_probe is None or tally.pending:
        return Finding.HOLD
    if tally.ups:
        return _contradicted(tally, quorum, scouting)
    if tally.timeouts >= quorum:
        return Finding.SUSPECT
    return Finding.UNCONFIRMABLE if tally.credible < quorum else Finding.HOLD


def _contradicted(tally: Tally, quorum: int, scouting: Scouting | None) -> Finding:
    """One credible "up" against timeouts: it may be stale or a lie, and it may be right."""
    if scouting is not None and scouting.alive:
        return Finding.AGENT_LOST
    if scouting is None or not scouting.ended:
        return Finding.SCOUT
    if scouting.silent and max(tally.timeouts, scouting.timeouts) >= quorum:
        return Finding.SUSPECT
    return Finding.AGENT_LOST if tally.timeouts >= quorum else Finding.HOLD
