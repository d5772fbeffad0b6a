"""Votes: whose word counts, and for how long."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.manager.votes import Tally, Votes, Weights, quorum, verdict_s
from vmha.model import FAST_TIMERS, STANDARD_TIMERS, Observation, PeerVerdict, Timers

V = PeerVerdict
T = STANDARD_TIMERS


def saw(**verdicts: PeerVerdict) -> tuple[Observation, ...]:
    return tuple(Observation(host_id=host, verdict=verdict) for host, verdict in verdicts.items())


def weights(silent_since: float = 0.0, stale: Iterable[str] = (), dead: Iterable[str] = ()) -> Weights:
    return Weights(
        fresh=lambda host: host not in stale, proven_dead=lambda host: host in dead, silent_since=silent_since, timers=T
    )


def discredits(tally: Tally) -> dict[str, str]:
    return {counted.vote.reporter_id: counted.discredit for counted in tally.votes}


def test_the_newest_vote_of_each_reporter_counts() -> None:
    """Distinct reporters are counted, each by its newest word."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT), 100.0)
    votes.put("h1", saw(x=V.OK), 101.0)
    votes.put("h2", saw(x=V.TIMEOUT), 101.0)
    votes.put("h2", saw(x=V.TIMEOUT), 102.0)

    tally = votes.tally("x", weights(), 103.0)

    assert (tally.timeouts, tally.ups, tally.credible) == (1, 1, 2)


def test_a_reporter_whose_own_stream_is_stale_does_not_count() -> None:
    """It could not have told a change."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT), 100.0)

    tally = votes.tally("x", weights(stale={"h1"}), 101.0)

    assert (tally.timeouts, discredits(tally)) == (0, {"h1": "STREAM_STALE"})


def test_a_vote_lives_for_two_report_intervals() -> None:
    """Agents report changes at once and all else each report_interval (127 s): one that missed two is void."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT), 100.0)

    assert votes.tally("x", weights(), 100.0 + 2 * 127.0).timeouts == 1
    assert discredits(votes.tally("x", weights(), 100.1 + 2 * 127.0)) == {"h1": "VOTE_STALE"}


@pytest.mark.parametrize(
    ("others", "credible"),
    [
        ({}, True),
        ({"a": V.TIMEOUT}, False),
        ({"a": V.OK}, True),
        ({"a": V.OK, "b": V.TIMEOUT}, False),
        ({"a": V.OK, "b": V.REFUSED, "c": V.TIMEOUT}, True),
        ({"a": V.OK, "b": V.OK, "c": V.TIMEOUT, "d": V.TIMEOUT}, False),
    ],
)
def test_who_meets_silence_at_half_of_its_other_peers_is_cut_off_itself(others: dict[str, PeerVerdict], credible: bool) -> None:
    """Credible is who meets silence at fewer than half of its peers other than the suspect, and who has no such peers."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT, **others), 100.0)

    tally = votes.tally("x", weights(), 101.0)

    assert (tally.timeouts == 1) is credible
    assert discredits(tally) == {"h1": "" if credible else "REPORTER_CUT_OFF"}


def test_silence_of_the_proven_dead_discredits_nobody() -> None:
    """A small cluster must be able to confirm its second loss: that the first is silent says nothing about the reporter."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT, dead=V.TIMEOUT, b=V.OK), 100.0)

    assert discredits(votes.tally("x", weights(), 101.0)) == {"h1": "REPORTER_CUT_OFF"}
    assert votes.tally("x", weights(dead={"dead"}), 101.0).timeouts == 1


def test_life_met_before_the_silence_is_pending_until_its_watcher_must_have_told() -> None:
    """An OK from before the host fell silent is no life, and is waited for; after the time that a verdict takes it is life."""
    votes = Votes()
    votes.put("h1", saw(x=V.OK), 100.0)
    silent = weights(silent_since=100.0)

    early = votes.tally("x", silent, 100.0 + verdict_s(T) - 0.1)
    late = votes.tally("x", silent, 100.0 + verdict_s(T))

    assert (early.ups, early.pending, early.credible) == (0, 1, 1)
    assert (late.ups, late.pending, late.credible) == (1, 0, 1)


@pytest.mark.parametrize("verdict", [V.OK, V.REFUSED, V.DEGRADED])
def test_life_met_after_the_first_missing_heartbeat_counts_at_once(verdict: PeerVerdict) -> None:
    """Who is reached while its heartbeats are missing lives: only its stream is gone."""
    votes = Votes()
    votes.put("h1", saw(x=verdict), 100.0 + T.heartbeat_interval_s + T.probe_timeout_s)

    tally = votes.tally("x", weights(silent_since=100.0), 107.0)

    assert (tally.pending, tally.ups + tally.alive) == (0, 1)


def test_the_age_of_an_observation_dates_it() -> None:
    """A full report repeats what was seen long ago; it does not make it new."""
    votes = Votes()
    votes.put("h1", (Observation(host_id="x", verdict=V.OK, age_s=20.0),), 112.0)

    assert votes.tally("x", weights(silent_since=100.0), 113.0).pending == 1


def test_a_watcher_that_watches_others_now_keeps_its_word_for_one_verdict() -> None:
    """A redraw must neither lose a quorum at once nor keep a dead host by the word of those who no longer look."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT, b=V.OK), 200.0)
    votes.draw({"h1": ("b",)}, 240.0)

    assert votes.tally("x", weights(silent_since=180.0), 240.0 + verdict_s(T)).timeouts == 1
    assert discredits(votes.tally("x", weights(silent_since=180.0), 240.1 + verdict_s(T))) == {"h1": "WATCHES_OTHERS"}


def test_a_word_that_ended_before_the_silence_says_nothing_about_it() -> None:
    """An OK of a former watcher is neither life nor pending for a host that fell silent after the redraw."""
    votes = Votes()
    votes.put("h1", saw(x=V.OK, b=V.OK), 200.0)
    votes.draw({"h1": ("b",)}, 240.0)

    tally = votes.tally("x", weights(silent_since=241.0), 242.0)

    assert (tally.credible, discredits(tally)) == (0, {"h1": "WATCHES_OTHERS"})


def test_a_late_report_of_an_earlier_round_is_such_a_word_too() -> None:
    """What an agent says of hosts that it is not assigned ends with that report."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT, b=V.OK), 200.0, assigned=("b",))

    assert votes.tally("x", weights(silent_since=190.0), 201.0).timeouts == 1
    assert votes.tally("x", weights(silent_since=190.0), 201.0 + verdict_s(T)).timeouts == 0


def test_a_watcher_that_is_drawn_again_counts_in_full_again() -> None:
    """Its next report renews its word."""
    votes = Votes()
    votes.put("h1", saw(x=V.OK), 200.0)
    votes.draw({"h1": ("b",)}, 210.0)
    votes.draw({"h1": ("x",)}, 220.0)
    votes.put("h1", saw(x=V.TIMEOUT), 240.0, assigned=("x",))

    assert votes.tally("x", weights(silent_since=215.0), 240.0 + 127.0).timeouts == 1


def test_a_peer_left_out_of_a_report_is_not_watched_any_more() -> None:
    """A report is a whole view: an agent that restarted knows nothing of a host until it has a verdict again."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT, b=V.OK), 200.0)
    votes.put("h1", saw(b=V.OK), 210.0)

    assert votes.tally("x", weights(), 210.0 + verdict_s(T) + 0.1).timeouts == 0


def test_a_reporter_that_booted_anew_has_said_nothing() -> None:
    """Votes belong to one boot of the reporter."""
    votes = Votes()
    votes.put("h1", saw(x=V.TIMEOUT), 100.0)
    votes.forget_reporter("h1")

    assert votes.tally("x", weights(), 101.0).votes == ()


def test_a_host_that_left_leaves_no_vote() -> None:
    """Neither on it nor by it."""
    votes = Votes()
    votes.put("x", saw(h1=V.OK), 100.0)
    votes.put("h1", saw(x=V.TIMEOUT), 100.0)
    votes.forget_host("x")

    assert votes.tally("x", weights(), 101.0).votes == votes.tally("h1", weights(), 101.0).votes == ()


@pytest.mark.parametrize(
    ("watchers", "hosts", "needed"), [(1, 2, 1), (0, 2, 1), (2, 3, 2), (1, 3, 2), (3, 4, 2), (4, 5, 3), (5, 6, 3), (5, 1000, 3)]
)
def test_quorum(watchers: int, hosts: int, needed: int) -> None:
    """floor(k/2)+1 of the k watchers, at least 2 where there are more than two hosts; 1 in a two-host cluster."""
    assert quorum(watchers, hosts) == needed


@pytest.mark.parametrize(("timers", "span_s"), [(STANDARD_TIMERS, 22.0), (FAST_TIMERS, 2.8)])
def test_the_time_for_a_verdict(timers: Timers, span_s: float) -> None:
    """The figures of docs/detection.md."""
    assert verdict_s(timers) == pytest.approx(span_s)


hosts = st.sampled_from("abcde")


@given(
    st.lists(st.tuples(hosts, st.dictionaries(hosts, st.sampled_from(list(V)), max_size=4)), max_size=30),
    st.frozensets(hosts),
    st.floats(0.0, 400.0),
)
def test_only_fresh_reporters_count_and_each_once(
    reports: list[tuple[str, dict[str, PeerVerdict]]], stale: frozenset[str], later_s: float
) -> None:
    """Whatever was reported: a tally counts each reporter once, and none whose own stream is stale."""
    votes = Votes()
    for number, (reporter, seen) in enumerate(reports):
        votes.put(reporter, saw(**seen), float(number))

    tally = votes.tally("a", weights(stale=stale), len(reports) + later_s)

    reporters = [counted.vote.reporter_id for counted in tally.votes]
    assert len(reporters) == len(set(reporters))
    assert tally.timeouts + tally.ups + tally.alive + tally.pending == tally.credible
    assert {c.vote.reporter_id for c in tally.votes if not c.discredit}.isdisjoint(stale)
