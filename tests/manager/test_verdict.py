"""The table of design section 4: one pure function, held against the table for every combination of evidence."""

from __future__ import annotations

from itertools import product

import pytest

from vmha.manager.verdict import Finding, Scouting, find
from vmha.manager.votes import CountedVote, Tally, Vote
from vmha.model import PeerVerdict

V = PeerVerdict
F = Finding
QUORUM = 3
SILENT = Scouting(asked=5, timeouts=4, ended=True)
DOUBTFUL = Scouting(asked=5, timeouts=3, ended=True)
WAITING = Scouting(asked=5, timeouts=4, ended=False)


def tally(timeouts: int = 0, ups: int = 0, alive: int = 0, pending: int = 0) -> Tally:
    verdicts = [V.TIMEOUT] * timeouts + [V.OK] * ups + [V.REFUSED] * alive
    votes = [
        CountedVote(vote=Vote(reporter_id=f"h{n}", verdict=verdict, consecutive_count=1, seen_at=0.0, reported_at=0.0))
        for n, verdict in enumerate(verdicts)
    ]
    votes += [
        CountedVote(vote=Vote(reporter_id=f"p{n}", verdict=V.OK, consecutive_count=1, seen_at=0.0, reported_at=0.0), pending=True)
        for n in range(pending)
    ]
    return Tally(votes=tuple(votes))


def test_row_quorum_timeout_and_own_timeout_is_suspect() -> None:
    """stale | quorum timeout | timeout | SUSPECT."""
    assert find(tally(timeouts=3), QUORUM, V.TIMEOUT, None) is F.SUSPECT


@pytest.mark.parametrize("own", [V.OK, V.REFUSED, V.DEGRADED])
def test_row_own_probe_ok_or_refused_is_agent_lost(own: PeerVerdict) -> None:
    """stale | any | ok or refused | AGENT_LOST; never evacuated, whatever the peers say."""
    for timeouts, ups, pending in product(range(6), range(3), range(2)):
        assert find(tally(timeouts, ups, 0, pending), QUORUM, own, SILENT) is F.AGENT_LOST


@pytest.mark.parametrize("own", [V.TIMEOUT, None])
@pytest.mark.parametrize(("ups", "alive"), [(2, 0), (3, 0), (0, 1), (1, 1)])
def test_row_two_ups_or_any_refused_is_agent_lost(own: PeerVerdict | None, ups: int, alive: int) -> None:
    """stale | two or more credible ups, or any refused | any | AGENT_LOST."""
    for timeouts in range(6):
        assert find(tally(timeouts, ups, alive), QUORUM, own, SILENT) is F.AGENT_LOST


def test_row_one_up_against_a_quorum_asks_scouts() -> None:
    """stale | one up against a quorum | timeout | five more peers: 80 % timeouts, SUSPECT; else AGENT_LOST."""
    against = tally(timeouts=4, ups=1)

    assert find(against, QUORUM, V.TIMEOUT, None) is F.SCOUT
    assert find(against, QUORUM, V.TIMEOUT, WAITING) is F.SCOUT
    assert find(against, QUORUM, V.TIMEOUT, SILENT) is F.SUSPECT
    assert find(against, QUORUM, V.TIMEOUT, DOUBTFUL) is F.AGENT_LOST
    assert find(against, QUORUM, V.TIMEOUT, Scouting(asked=2, timeouts=2, ended=True)) is F.SUSPECT


def test_a_scout_that_meets_a_living_kernel_decides() -> None:
    """REFUSED or DEGRADED of a scout proves life, however many time out."""
    assert find(tally(timeouts=4, ups=1), QUORUM, V.TIMEOUT, Scouting(asked=5, timeouts=4, alive=1, ended=True)) is F.AGENT_LOST


def test_row_split_asks_scouts_and_holds_when_undecided() -> None:
    """stale | split | timeout | five more peers; undecided: hold."""
    split = tally(timeouts=2, ups=1)

    assert find(split, QUORUM, V.TIMEOUT, None) is F.SCOUT
    assert find(split, QUORUM, V.TIMEOUT, SILENT) is F.SUSPECT
    assert find(split, QUORUM, V.TIMEOUT, DOUBTFUL) is F.HOLD
    assert find(split, QUORUM, V.TIMEOUT, Scouting(asked=2, timeouts=2, ended=True)) is F.HOLD


@pytest.mark.parametrize("timeouts", [0, 1, 2])
def test_row_too_few_credible_reporters_is_unconfirmable(timeouts: int) -> None:
    """stale | fewer credible reporters than the quorum | timeout | hold, alarm UNCONFIRMABLE."""
    assert find(tally(timeouts=timeouts), QUORUM, V.TIMEOUT, None) is F.UNCONFIRMABLE


def test_without_a_fresh_own_probe_nothing_is_suspected() -> None:
    """The manager's own view is needed (S5): whatever the peers say."""
    for timeouts, ups, pending in product(range(6), range(2), range(3)):
        assert find(tally(timeouts, ups, 0, pending), QUORUM, None, SILENT) is not F.SUSPECT


def test_nobody_is_suspected_while_a_vote_is_pending() -> None:
    """A watcher that may still say "up" is waited for."""
    for timeouts, pending in product(range(6), range(1, 3)):
        assert find(tally(timeouts=timeouts, pending=pending), QUORUM, V.TIMEOUT, SILENT) is F.HOLD


def test_suspect_needs_a_quorum_in_every_combination() -> None:
    """Over all evidence: SUSPECT only with our own time-out, a quorum of time-outs, no life, and at most one "up"."""
    scoutings = [None, *(Scouting(asked=a, timeouts=t, alive=x, ended=e) for a, t, x, e in _scoutings())]
    cases = product(range(5), range(3), range(2), range(2), [None, *V], scoutings, range(1, 4))
    for timeouts, ups, alive, pending, own, scouting, quorum in cases:
        if find(tally(timeouts, ups, alive, pending), quorum, own, scouting) is not F.SUSPECT:
            continue
        assert own is V.TIMEOUT and not alive and not pending and ups <= 1
        assert timeouts >= quorum or (scouting is not None and scouting.timeouts >= quorum)
        if ups:
            assert scouting is not None and scouting.ended and not scouting.alive
            assert scouting.timeouts >= 0.8 * scouting.asked > 0


def _scoutings() -> list[tuple[int, int, int, bool]]:
    return [
        (asked, timeouts, alive, ended)
        for asked in (2, 5)
        for timeouts in range(asked + 1)
        for alive in range(min(2, asked - timeouts + 1))
        for ended in (False, True)
    ]
