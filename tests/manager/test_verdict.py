"""The table of evidence as a function."""

from __future__ import annotations

from itertools import product

import pytest

from vmha.manager.verdict import Finding, Scouting, find
from vmha.manager.votes import CountedVote, Tally, Vote
from vmha.model import PeerVerdict

P, F = PeerVerdict, Finding
SILENT, ALIVE = Scouting(asked=5, timeouts=4, ended=True), Scouting(asked=5, timeouts=3, ended=True)


def tally(timeouts: int = 0, ups: int = 0, refused: int = 0, degraded: int = 0, pending: int = 0, discredited: int = 0) -> Tally:
    words = [
        (P.TIMEOUT, timeouts),
        (P.OK, ups),
        (P.REFUSED, refused),
        (P.DEGRADED, degraded),
        (P.OK, pending),
        (P.OK, discredited),
    ]
    votes = []
    for place, (verdict, count) in enumerate(words):
        for number in range(count):
            vote = Vote(reporter_id=f"{place}-{number}", verdict=verdict, consecutive_count=3, seen_at=0.0, reported_at=0.0)
            votes.append(CountedVote(vote=vote, discredit="VOTE_STALE" if place == 5 else "", pending=place == 4))
    return Tally(votes=tuple(votes))


@pytest.mark.parametrize(
    ("votes", "own", "scouting", "found"),
    [
        (tally(timeouts=3), P.TIMEOUT, None, F.SUSPECT),
        (tally(timeouts=5), P.OK, None, F.AGENT_LOST),
        (tally(timeouts=5), P.REFUSED, None, F.AGENT_LOST),
        (tally(timeouts=5), P.DEGRADED, None, F.AGENT_LOST),
        (tally(timeouts=5), None, None, F.HOLD),
        (tally(timeouts=3, ups=2), P.TIMEOUT, None, F.AGENT_LOST),
        (tally(ups=2), None, None, F.AGENT_LOST),
        (tally(timeouts=4, refused=1), P.TIMEOUT, SILENT, F.AGENT_LOST),
        (tally(timeouts=4, degraded=1), P.TIMEOUT, SILENT, F.AGENT_LOST),
        (tally(ups=1), P.TIMEOUT, None, F.AGENT_LOST),
        (tally(timeouts=3, ups=1), P.TIMEOUT, None, F.SCOUT),
        (tally(timeouts=3, ups=1), P.TIMEOUT, Scouting(asked=5, timeouts=4), F.SCOUT),
        (tally(timeouts=3, ups=1), P.TIMEOUT, SILENT, F.SUSPECT),
        (tally(timeouts=3, ups=1), P.TIMEOUT, ALIVE, F.AGENT_LOST),
        (tally(timeouts=3, ups=1), P.TIMEOUT, Scouting(asked=5, timeouts=4, alive=1), F.AGENT_LOST),
        (tally(timeouts=1, ups=1), P.TIMEOUT, None, F.SCOUT),
        (tally(timeouts=1, ups=1), P.TIMEOUT, ALIVE, F.HOLD),
        (tally(timeouts=2), P.TIMEOUT, None, F.UNCONFIRMABLE),
        (tally(timeouts=2, discredited=3), P.TIMEOUT, None, F.UNCONFIRMABLE),
        (tally(), P.TIMEOUT, None, F.UNCONFIRMABLE),
        (tally(timeouts=3, discredited=2), P.TIMEOUT, None, F.SUSPECT),
        (tally(timeouts=4, pending=1), P.TIMEOUT, None, F.HOLD),
        (tally(pending=5), P.TIMEOUT, None, F.HOLD),
    ],
)
def test_each_row(votes: Tally, own: PeerVerdict | None, scouting: Scouting | None, found: Finding) -> None:
    """Votes, own probe and scouts to a finding, with a quorum of 3: the table of docs/detection.md."""
    assert find(votes, 3, own, scouting) is found


@pytest.mark.parametrize(
    ("timeouts", "asked", "silent"), [(4, 5, True), (3, 5, False), (2, 2, True), (1, 2, False), (0, 0, False)]
)
def test_scouts_need_80_percent(timeouts: int, asked: int, silent: bool) -> None:
    """80 % of those that were asked; who does not answer does not count as silence."""
    assert Scouting(asked=asked, timeouts=timeouts).silent is silent


def test_suspect_needs_the_evidence_in_every_combination() -> None:
    """SUSPECT needs our own time-out, a quorum of time-outs, no life, nothing pending, and one "up" at most."""
    scoutings = [None] + [
        Scouting(asked=asked, timeouts=timeouts, alive=alive, ended=ended)
        for asked, timeouts, alive, ended in product((2, 5), range(6), range(2), (False, True))
        if timeouts + alive <= asked
    ]
    found = 0
    for timeouts, ups, refused, pending, own, scouting, quorum in product(
        range(5), range(3), range(2), range(2), [None, *P], scoutings, range(1, 4)
    ):
        votes = tally(timeouts=timeouts, ups=ups, refused=refused, pending=pending)
        if find(votes, quorum, own, scouting) is not F.SUSPECT:
            continue
        found += 1
        assert own is P.TIMEOUT and not refused and not pending and ups <= 1
        assert timeouts >= quorum or (scouting is not None and scouting.timeouts >= quorum)
        if ups:
            assert scouting is not None and scouting.ended and not scouting.alive
            assert scouting.timeouts >= 0.8 * scouting.asked
    assert found
