"""Tests of vmha.agent.probe_plan: the rhythm of probes, and what answers add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.agent.probe_plan import Assigned, Effect, PeerTarget, ProbeEnded, ProbePlan, StartProbe, VerdictChanged
from vmha.model import PeerVerdict

OK, REFUSED, TIMEOUT, DEGRADED = PeerVerdict.OK, PeerVerdict.REFUSED, PeerVerdict.TIMEOUT, PeerVerdict.DEGRADED
INTERVAL_S = 5.0


def assigned(*hosts: str, interval_s: float = INTERVAL_S, version: str = "v1") -> Assigned:
    peers = tuple(PeerTarget(host_id=host, probe_target=f"{host}:9177") for host in hosts)
    return Assigned(version=version, peers=peers, probe_interval_s=interval_s, probe_timeout_s=1.0, probe_misses=3)


def started(effects: list[Effect]) -> list[StartProbe]:
    return [effect for effect in effects if isinstance(effect, StartProbe)]


class Walk:
    """Drives a plan for one peer: each answer comes 0.1 s after its probe started."""

    def __init__(self) -> None:
        self.plan, self.now = ProbePlan(), 100.0
        self.plan.event(assigned("h2"), self.now)

    def answer(self, verdict: PeerVerdict) -> PeerVerdict | None:
        """Answer the next probe; returns the new verdict when it changed."""
        deadline = self.plan.deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        (probe,) = started(self.plan.tick(self.now))
        self.now += 0.1
        changed = self.plan.event(ProbeEnded(host_id="h2", number=probe.number, verdict=verdict), self.now)
        return changed[0].new if changed and isinstance(changed[0], VerdictChanged) else None


@pytest.mark.parametrize(
    ("answers", "verdicts"),
    [
        ([OK], [OK]),
        ([TIMEOUT] * 3, [None, None, TIMEOUT]),
        ([OK, TIMEOUT, TIMEOUT, OK, TIMEOUT, TIMEOUT, TIMEOUT], [OK, None, None, None, None, None, TIMEOUT]),
        ([TIMEOUT, TIMEOUT, REFUSED, TIMEOUT, TIMEOUT], [None, None, REFUSED, None, None]),
        ([TIMEOUT, TIMEOUT, TIMEOUT, DEGRADED], [None, None, TIMEOUT, DEGRADED]),
        ([TIMEOUT, TIMEOUT, TIMEOUT, OK], [None, None, TIMEOUT, OK]),
        ([OK, DEGRADED, DEGRADED, DEGRADED], [OK, None, None, DEGRADED]),
        ([OK, TIMEOUT, DEGRADED, TIMEOUT, REFUSED], [OK, None, None, None, REFUSED]),
        ([REFUSED, OK, REFUSED, OK], [REFUSED, OK, None, None]),
    ],
)
def test_what_answers_add_up_to(answers: list[PeerVerdict], verdicts: list[PeerVerdict | None]) -> None:
    """OK counts at once, silence after three misses in a row, and any answer of the kernel ends silence at once."""
    walk = Walk()

    assert [walk.answer(answer) for answer in answers] == verdicts


@given(st.lists(st.sampled_from(list(PeerVerdict)), max_size=60))
def test_silence_is_never_said_without_three_timeouts_in_a_row(answers: list[PeerVerdict]) -> None:
    """For any answers: TIMEOUT stands only while the last three are TIMEOUT, OK stands as soon as the last is OK."""
    walk = Walk()
    for number, answer in enumerate(answers, 1):
        walk.answer(answer)
        said = [seen.verdict for seen in walk.plan.observations(walk.now)]
        if said == [TIMEOUT]:
            assert answers[number - 3 : number] == [TIMEOUT] * 3 or answer is not TIMEOUT
            assert answer is TIMEOUT
        if answers[max(0, number - 3) : number] == [TIMEOUT] * 3:
            assert said == [TIMEOUT]
        if answer is OK:
            assert said == [OK]


@given(st.integers(1, 12), st.lists(st.floats(0.0, 20.0), min_size=1, max_size=40))
def test_no_peer_is_probed_more_slowly_or_twice_at_once(count: int, pauses: list[float]) -> None:
    """However late `tick` comes: one probe of a peer at a time, and each peer is due within one interval."""
    plan, now = ProbePlan(), 0.0
    plan.event(assigned(*[f"h{n}" for n in range(count)]), now)
    for pause in pauses:
        now += pause
        probes = started(plan.tick(now))
        assert len({probe.host_id for probe in probes}) == len(probes)
        assert started(plan.tick(now)) == []
        for probe in probes:
            plan.event(ProbeEnded(host_id=probe.host_id, number=probe.number, verdict=OK), now)
        deadline = plan.deadline()
        assert deadline is not None
        assert now <= deadline <= now + INTERVAL_S


def test_a_miss_does_not_slow_the_rhythm() -> None:
    """Probes start at the same distance whether they are answered or not."""
    plan = ProbePlan()
    plan.event(assigned("h2"), 0.0)
    starts = []
    for verdict in (TIMEOUT, TIMEOUT, OK, TIMEOUT):
        at = plan.deadline()
        assert at is not None
        starts.append(at)
        (probe,) = started(plan.tick(at))
        plan.event(ProbeEnded(host_id="h2", number=probe.number, verdict=verdict), at + 1.0)

    assert starts == [0.0, 5.0, 10.0, 15.0]


def test_peers_are_spread_over_the_interval() -> None:
    """Five peers are asked at five different moments of one interval."""
    plan = ProbePlan()
    plan.event(assigned("h1", "h2", "h3", "h4", "h5"), 0.0)
    moments: list[float] = []
    while len(moments) < 5:
        at = plan.deadline()
        assert at is not None
        moments += [at] * len(started(plan.tick(at)))

    assert moments == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_probe_under_way_is_not_doubled() -> None:
    """While a probe has not ended its peer is not due; the next one starts at once when it was due meanwhile."""
    plan = ProbePlan()
    plan.event(assigned("h2"), 0.0)
    (probe,) = started(plan.tick(0.0))
    assert plan.deadline() is None
    assert plan.tick(12.0) == []

    plan.event(ProbeEnded(host_id="h2", number=probe.number, verdict=DEGRADED), 12.0)

    assert len(started(plan.tick(12.0))) == 1
    assert plan.deadline() is None


def test_s02_a_new_drawing_keeps_what_is_known_of_peers_that_stay() -> None:
    """Two misses before a new drawing and one after it are three; a peer that left is forgotten, also its late answer."""
    plan = ProbePlan()
    plan.event(assigned("h2", "h3"), 0.0)
    probes = {}
    for now in (0.0, 2.5, 5.0, 7.5):
        for probe in started(plan.tick(now)):
            probes[probe.host_id] = probe
            plan.event(ProbeEnded(host_id=probe.host_id, number=probe.number, verdict=TIMEOUT), now + 1)
    late = started(plan.tick(10.0))[0]
    plan.event(assigned("h2", "h4", version="v2"), 10.0)

    changed = plan.event(ProbeEnded(host_id="h2", number=late.number, verdict=TIMEOUT), 11.0)
    ignored = plan.event(ProbeEnded(host_id="h3", number=probes["h3"].number, verdict=OK), 11.0)

    assert changed == [VerdictChanged(host_id="h2", old=None, new=TIMEOUT)]
    assert ignored == []
    assert plan.version == "v2"
    assert [seen.host_id for seen in plan.observations(11.0)] == ["h2"]


def test_an_old_ok_does_not_look_fresh() -> None:
    """While misses come in that are no verdict yet, the age counts from the last OK."""
    walk = Walk()
    walk.answer(OK)
    said_at = walk.now
    walk.answer(TIMEOUT)
    walk.answer(TIMEOUT)
    (seen,) = walk.plan.observations(walk.now)

    assert seen.verdict is OK
    assert seen.age_s == pytest.approx(walk.now - said_at)
    assert seen.consecutive_count == 1


def test_a_quicker_rhythm_takes_hold_at_once() -> None:
    """A peer that was due in five seconds is due within the new interval."""
    plan = ProbePlan()
    plan.event(assigned("h2"), 0.0)
    (probe,) = started(plan.tick(0.0))
    plan.event(ProbeEnded(host_id="h2", number=probe.number, verdict=OK), 0.1)

    plan.event(assigned("h2", interval_s=0.5), 0.2)

    deadline = plan.deadline()
    assert deadline is not None
    assert deadline <= 0.7


def test_a_probe_that_says_nothing_counts_for_nothing() -> None:
    """Two misses, a probe that this process itself held up, and a third miss: silence after the third, not before."""
    walk = Walk()
    walk.answer(TIMEOUT)
    walk.answer(TIMEOUT)
    at = walk.plan.deadline()
    assert at is not None
    (probe,) = started(walk.plan.tick(at))

    assert walk.plan.event(ProbeEnded(host_id="h2", number=probe.number, verdict=None), at + 9.0) == []
    assert walk.plan.observations(at + 9.0) == []
    assert walk.answer(TIMEOUT) is TIMEOUT
