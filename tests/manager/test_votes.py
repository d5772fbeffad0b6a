"""Whose word counts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.manager import watchgraph
from vmha.manager.votes import Tally, Votes, Weights, quorum, verdict_s
from vmha.model import FAST_TIMERS, STANDARD_TIMERS, Observation, PeerVerdict

P = PeerVerdict
NOW = 1000.0
HOST = "dead"


def seen(host: str = HOST, verdict: PeerVerdict = P.TIMEOUT, age_s: float = 0.0) -> Observation:
    return Observation(host_id=host, verdict=verdict, age_s=age_s)


def weigh(votes: Votes, *, now: float = NOW, stale: str = "", proven_dead: str = "", silent_since: float = NOW - 100) -> Tally:
    weights = Weights(
        fresh=lambda reporter: reporter != stale,
        proven_dead=lambda host: host == proven_dead,
        silent_since=silent_since,
        timers=STANDARD_TIMERS,
    )
    return votes.tally(HOST, weights, now)


def discredits(tally: Tally) -> dict[str, str]:
    return {counted.vote.reporter_id: counted.discredit for counted in tally.votes}


def test_the_newest_vote_of_a_reporter_counts() -> None:
    """A reporter has one vote, its newest, however often it reports."""
    votes = Votes()
    for verdict in (P.OK, P.TIMEOUT, P.REFUSED):
        votes.put("a", [seen(verdict=verdict)], NOW)

    assert [counted.vote.verdict for counted in weigh(votes).votes] == [P.REFUSED]


def test_a_reporter_whose_stream_is_stale_does_not_count() -> None:
    """Its word may be old, and it may be cut off itself."""
    votes = Votes()
    votes.put("a", [seen()], NOW)
    votes.put("b", [seen()], NOW)

    assert discredits(weigh(votes, stale="a")) == {"a": "STREAM_STALE", "b": ""}


def test_a_report_counts_for_two_report_intervals() -> None:
    """Reports come each report interval and at each change; two missed ones are too many."""
    votes = Votes()
    votes.put("a", [seen()], NOW)

    assert discredits(weigh(votes, now=NOW + 254.0, silent_since=NOW - 9)) == {"a": ""}
    assert discredits(weigh(votes, now=NOW + 254.1, silent_since=NOW - 9)) == {"a": "VOTE_STALE"}


@pytest.mark.parametrize(("others", "cut_off"), [([], False), ([P.OK], False), ([P.TIMEOUT], True), ([P.TIMEOUT, P.OK], True)])
def test_a_reporter_that_meets_silence_at_half_of_its_other_peers_does_not_count(
    others: list[PeerVerdict], cut_off: bool
) -> None:
    """Fewer than half of its peers other than the suspect may be silent for it; where it has none, it counts."""
    votes = Votes()
    votes.put("a", [seen(), *(seen(f"peer{n}", verdict) for n, verdict in enumerate(others))], NOW)

    assert discredits(weigh(votes)) == {"a": "REPORTER_CUT_OFF" if cut_off else ""}


def test_silence_at_a_host_that_is_proven_dead_says_nothing_about_the_reporter() -> None:
    """In a three-host cluster the last witness also watches the host that was evacuated."""
    votes = Votes()
    votes.put("a", [seen(), seen("evacuated")], NOW)

    assert discredits(weigh(votes)) == {"a": "REPORTER_CUT_OFF"}
    assert discredits(weigh(votes, proven_dead="evacuated")) == {"a": ""}


def test_a_former_watchers_word_of_before_the_silence_does_not_count() -> None:
    """Its last look was at a living host; nobody asked it since."""
    votes = Votes()
    votes.draw({"a": (HOST,)}, NOW - 60, STANDARD_TIMERS)
    votes.put("a", [seen(verdict=P.OK)], NOW - 60, (HOST,))

    votes.draw({"a": ("other",)}, NOW - 20, STANDARD_TIMERS)

    assert discredits(weigh(votes, silent_since=NOW - 10)) == {"a": "WATCHES_OTHERS"}


def test_a_former_watchers_word_of_the_silence_bridges_the_change() -> None:
    """Until the new watchers can have a verdict the old ones' counts; then no more."""
    votes = Votes()
    votes.draw({"a": (HOST,)}, NOW - 60, STANDARD_TIMERS)
    votes.put("a", [seen()], NOW - 30, (HOST,))
    votes.draw({"a": ("other",)}, NOW, STANDARD_TIMERS)

    assert weigh(votes, now=NOW + verdict_s(STANDARD_TIMERS)).timeouts == 1
    assert weigh(votes, now=NOW + verdict_s(STANDARD_TIMERS) + 0.1).timeouts == 0


def test_life_that_was_met_before_the_silence_is_waited_for() -> None:
    """A watcher that has not had time for another verdict neither counts as up nor lets anybody decide without it."""
    votes = Votes()
    votes.put("a", [seen(verdict=P.OK)], NOW)

    young, old = (weigh(votes, now=NOW + s, silent_since=NOW) for s in (1.0, verdict_s(STANDARD_TIMERS)))

    assert (young.ups, young.pending, young.credible) == (0, 1, 1)
    assert (old.ups, old.pending, old.credible) == (1, 0, 1)


def test_whoever_booted_anew_or_left_has_said_nothing() -> None:
    """Votes are of one boot; a host that left is neither witness nor judged."""
    votes = Votes()
    votes.put("a", [seen()], NOW)
    votes.put("b", [seen()], NOW)

    votes.forget_reporter("a")
    assert discredits(weigh(votes)) == {"b": ""}
    votes.forget_host(HOST)
    assert weigh(votes).votes == ()


def test_counts() -> None:
    """Timeouts, ups and signs of a kernel are kept apart."""
    votes = Votes()
    for reporter, verdict in zip("abcde", [P.TIMEOUT, P.OK, P.REFUSED, P.DEGRADED, P.TIMEOUT], strict=True):
        votes.put(reporter, [seen(verdict=verdict)], NOW)
    tally = weigh(votes)

    assert (tally.timeouts, tally.ups, tally.alive, tally.credible) == (2, 1, 2, 5)


@pytest.mark.parametrize(
    ("watchers", "hosts", "want"), [(1, 2, 1), (0, 1, 1), (2, 3, 2), (5, 6, 3), (5, 100, 3), (1, 3, 2), (0, 9, 2)]
)
def test_quorum(watchers: int, hosts: int, want: int) -> None:
    """floor(k/2)+1 of the watchers, at least 2 where the cluster has more than two hosts; 1 in a two-host cluster."""
    assert quorum(watchers, hosts) == want


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(P))), max_size=12))
def test_no_reporter_has_two_votes(reports: list[tuple[str, PeerVerdict]]) -> None:
    """However reports come in: one vote for each reporter, in the reporters' order."""
    votes = Votes()
    for number, (reporter, verdict) in enumerate(reports):
        votes.put(reporter, [seen(verdict=verdict)], NOW - 50 + number)

    assert [counted.vote.reporter_id for counted in weigh(votes).votes] == sorted({reporter for reporter, _ in reports})


def test_a_verdict_is_there_before_the_stream_is_long_stale() -> None:
    """The wait for the last watcher's verdict is short beside what follows: 22 s and 2.8 s."""
    assert verdict_s(STANDARD_TIMERS) == 22.0
    assert verdict_s(FAST_TIMERS) == pytest.approx(2.8)


def test_a_former_watchers_word_of_life_before_the_silence_is_not_waited_for() -> None:
    """Nothing would follow from it, so that nothing follows means nothing: neither life nor pending."""
    votes = Votes()
    votes.put("a", [seen(verdict=P.OK), seen("other", P.OK)], NOW - 60)
    votes.draw({"a": ("other",)}, NOW - 5, STANDARD_TIMERS)

    assert discredits(weigh(votes, silent_since=NOW - 15)) == {"a": "WATCHES_OTHERS"}


def test_a_late_report_of_an_earlier_round_is_a_former_watchers_word() -> None:
    """What an agent says of hosts that it is not assigned ends with that report."""
    votes = Votes()
    votes.put("a", [seen(), seen("other", P.OK)], NOW, assigned=("other",))

    assert weigh(votes, now=NOW + 1).timeouts == 1
    assert weigh(votes, now=NOW + 1 + verdict_s(STANDARD_TIMERS)).timeouts == 0


def test_a_watcher_that_is_drawn_again_counts_in_full_again() -> None:
    """Its next report renews its word."""
    votes = Votes()
    votes.put("a", [seen(verdict=P.OK)], NOW - 40)
    votes.draw({"a": ("other",)}, NOW - 30, STANDARD_TIMERS)
    votes.draw({"a": (HOST,)}, NOW - 20, STANDARD_TIMERS)
    votes.put("a", [seen()], NOW, assigned=(HOST,))

    assert weigh(votes, now=NOW + STANDARD_TIMERS.report_interval_s).timeouts == 1


def test_what_is_remembered_does_not_grow_with_the_rounds() -> None:
    """In the end every host will have watched every other: of a host only its watchers' words are kept, and the last round's."""
    hosts = {f"h{number:02d}": "" for number in range(40)}
    votes, dice = Votes(), random.Random(1)
    for round_ in range(200):
        now = NOW + 59 * round_
        assignment = watchgraph.draw(hosts, 5, dice)
        votes.draw(assignment, now, STANDARD_TIMERS)
        for reporter, peers in assignment.items():
            votes.put(reporter, [seen(peer, P.OK) for peer in peers], now + 1, peers)
    weights = Weights(fresh=lambda _: True, proven_dead=lambda _: False, silent_since=NOW, timers=STANDARD_TIMERS)
    assert all(len(votes.tally(host, weights, now).votes) <= 10 for host in hosts)


def test_a_host_that_booted_anew_has_said_nothing() -> None:
    """Nor of hosts that it watched in an earlier round."""
    votes = Votes()
    votes.put("a", [seen()], NOW - 1)
    votes.put("a", [seen("other", P.OK)], NOW, assigned=("other",))
    assert weigh(votes).timeouts == 1
    votes.forget_reporter("a")
    assert weigh(votes).votes == ()
