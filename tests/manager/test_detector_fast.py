"""How fast: real probe plans of the agents round one detector, on virtual time, with every host in a phase of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmha.agent import probe_plan as pp
from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.detector import Detector
from vmha.manager.watchgraph import draw
from vmha.model import FAST_TIMERS, STANDARD_TIMERS, ClusterConfig, HostState, Observation, PeerVerdict, Timers

SETTLED_S = 40.0
WAY_S = 0.02
"""A message's way, and a probe's that is answered."""


class Race:
    """A cluster whose host "h0" loses power at `cut`, anywhere in a round."""

    def __init__(self, count: int, timers: Timers, seed: int, *, redraw: bool = True) -> None:
        self.timers, self.random = timers, random.Random(seed)
        self.cut = SETTLED_S + self.random.uniform(0.0, FAST_TIMERS.peer_refresh_s)
        self.hosts = [f"h{n}" for n in range(count)]
        self.plans = {host: pp.ProbePlan() for host in self.hosts}
        self.core = Detector("c", -1e6)
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.now, self.count = 0.0, 0
        self.log: list[tuple[float, fx.Effect]] = []
        self.verdicts: list[float] = []
        self.tell(ev.ClusterConfigured(config=ClusterConfig(timers=timers), enabled=True))
        for host in self.hosts:
            self.tell(ev.HostConfigured(host_id=host, boot_id="b"))
            self.at(self.random.uniform(0.0, timers.heartbeat_interval_s), partial(self.beat, host))
            self.at(self.random.uniform(0.0, 3.0), partial(self.report_regularly, host))
        self.redraw = redraw
        self.draw()

    def at(self, delay_s: float, act: Callable[[], None]) -> None:
        self.count += 1
        heappush(self.queue, (self.now + delay_s, self.count, act))

    def run(self, until: float) -> None:
        while True:
            due = self.core.deadline()
            if due is not None and due <= until and (not self.queue or due <= self.queue[0][0]):
                self.now = max(self.now, due)
                self.take(self.core.tick(self.now))
            elif self.queue and self.queue[0][0] <= until:
                self.now, _, act = heappop(self.queue)
                act()
            else:
                return

    def is_dead(self, host: str) -> bool:
        return host == "h0" and self.now >= self.cut

    def draw(self) -> None:
        assignment = draw(dict.fromkeys(self.hosts, ""), 5, self.random)
        self.tell(ev.WatchersDrawn(assignment=assignment))
        for host, peers in assignment.items():
            self.at(WAY_S, partial(self.assign, host, peers))
        if self.redraw:
            self.at(self.timers.peer_refresh_s, self.draw)

    def assign(self, host: str, peers: tuple[str, ...]) -> None:
        t = self.timers
        targets = [pp.PeerTarget(host_id=peer, probe_target=peer) for peer in peers]
        assigned = pp.Assigned(
            version=str(self.count),
            peers=targets,
            probe_interval_s=t.probe_interval_s,
            probe_timeout_s=t.probe_timeout_s,
            probe_misses=t.probe_misses,
        )
        self.plans[host].event(assigned, self.now)
        self.wake(host)

    def wake(self, host: str) -> None:
        due = self.plans[host].deadline()
        if due is not None and not self.is_dead(host):
            self.at(max(0.0, due - self.now), lambda: self.probe(host))

    def probe(self, host: str) -> None:
        for start in self.plans[host].tick(self.now):
            assert isinstance(start, pp.StartProbe)
            dead = self.is_dead(start.host_id)
            self.at(start.timeout_s if dead else WAY_S, partial(self.probed, host, start, dead))
            self.wake(host)

    def probed(self, host: str, start: pp.StartProbe, dead: bool) -> None:
        verdict = PeerVerdict.TIMEOUT if dead else PeerVerdict.OK
        ended = pp.ProbeEnded(host_id=start.host_id, number=start.number, verdict=verdict)
        if self.plans[host].event(ended, self.now):
            self.report(host)
        self.wake(host)

    def report_regularly(self, host: str) -> None:
        self.report(host)
        self.at(self.timers.report_interval_s, lambda: self.report_regularly(host))

    def report(self, host: str) -> None:
        if self.is_dead(host):
            return
        seen: tuple[Observation, ...] = tuple(self.plans[host].observations(self.now))
        self.at(WAY_S, lambda: self.reported(host, seen))

    def reported(self, host: str, seen: tuple[Observation, ...]) -> None:
        if any(o.host_id == "h0" and o.verdict is PeerVerdict.TIMEOUT for o in seen):
            self.verdicts.append(self.now)
        self.tell(ev.ReportReceived(reporter_id=host, observations=seen))

    def beat(self, host: str) -> None:
        if self.is_dead(host):
            return
        self.at(WAY_S, lambda: self.tell(ev.HeartbeatReceived(host_id=host, boot_id="b")))
        self.at(self.timers.heartbeat_interval_s, lambda: self.beat(host))

    def tell(self, event: ev.Event) -> None:
        self.take(self.core.event(event, self.now))

    def take(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            self.log.append((self.now, effect))
            if isinstance(effect, fx.ProbeHost):
                self.own_probe(effect.host_id)
            elif isinstance(effect, fx.RecordSuspect):
                answer = ev.SuspectRecorded(host_id=effect.host_id, confirm_in_s=effect.cooldown_s)
                self.at(WAY_S, partial(self.tell, answer))

    def own_probe(self, host: str) -> None:
        verdict = PeerVerdict.TIMEOUT if self.is_dead(host) else PeerVerdict.OK
        delay = self.timers.probe_timeout_s if self.is_dead(host) else WAY_S
        self.at(delay, lambda: self.tell(ev.ProbeEnded(host_id=host, verdict=verdict)))

    def confirmed_at(self) -> list[tuple[float, str]]:
        return [(at, effect.host_id) for at, effect in self.log if isinstance(effect, fx.ConfirmDown)]

    def path(self) -> list[HostState]:
        return [e.new for at, e in self.log if isinstance(e, fx.ChangeState) and e.host_id == "h0" and at >= self.cut]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 6))
def test_a_power_cut_is_confirmed_with_the_last_needed_verdict(seed: int, count: int) -> None:
    """Fast profile: ConfirmDown follows within 0.1 s of the last watcher's TIMEOUT, at most 2.5 s after the cut, no detour."""
    race = Race(count, FAST_TIMERS, seed)
    race.run(race.cut + 4.0)

    [(at, host)] = race.confirmed_at()
    firsts = [v for v in race.verdicts if v <= at]
    assert host == "h0"
    assert at - max(firsts) <= 0.1
    assert at - race.cut <= 2.5
    assert race.path() == [HostState.SUSPECT]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_a_redraw_in_the_middle_does_not_lose_the_dead_host(seed: int) -> None:
    """Twelve hosts, five watchers, a new round each 5 s: whenever the cut falls, it is confirmed, late by a verdict at most."""
    race = Race(12, FAST_TIMERS, seed)
    race.run(race.cut + 8.0)

    [(at, host)] = race.confirmed_at()
    assert host == "h0"
    assert at - race.cut <= 5.5
    assert HostState.AGENT_LOST not in race.path()


@pytest.mark.parametrize("seed", range(5))
def test_the_standard_profile_takes_its_150_s(seed: int) -> None:
    """Standard profile: SUSPECT 10 to 22 s after the cut, confirmed 150 s later."""
    race = Race(6, STANDARD_TIMERS, seed)
    race.run(race.cut + 200.0)

    suspected = [at for at, e in race.log if isinstance(e, fx.ChangeState) and e.new is HostState.SUSPECT]
    [(at, _)] = race.confirmed_at()
    assert len(suspected) == 1 and 10.0 <= suspected[0] - race.cut <= 22.0
    assert 150.0 <= at - suspected[0] <= 150.0 + 2 * WAY_S + 1.0
    assert race.path() == [HostState.SUSPECT, HostState.COOLDOWN]
