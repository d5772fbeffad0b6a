"""S30: one detector holds a region of 10,000 hosts."""

from __future__ import annotations

import random

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.detector import Detector
from vmha.manager.watchgraph import draw
from vmha.model import STANDARD_TIMERS, ClusterConfig, HostState, Observation, PeerVerdict

HOSTS = [f"h{number}" for number in range(10_000)]
DEAD = "h4711"
LEARNT_S = -1e6


def test_s30_one_dead_host_among_ten_thousand_is_suspected_and_no_other() -> None:
    """Everybody beats; the watchers of one report misses, the manager's own probe agrees: exactly that host is suspected."""
    core, now = Detector("c", LEARNT_S), 0.0
    core.event(ev.ClusterConfigured(config=ClusterConfig(), enabled=True), now)
    for host in HOSTS:
        core.event(ev.HostConfigured(host_id=host, boot_id="b"), now)
    assignment = draw(dict.fromkeys(HOSTS, "r1"), 5, random.Random(1))
    core.event(ev.WatchersDrawn(assignment=assignment), now)
    for host in HOSTS:
        core.event(ev.HeartbeatReceived(host_id=host, boot_id="b"), now)
    now += STANDARD_TIMERS.stream_stale_s - 1.0
    for host in HOSTS:
        if host != DEAD:
            core.event(ev.HeartbeatReceived(host_id=host, boot_id="b"), now)
    now += 1.5
    effects = core.tick(now)
    for watcher, watched in assignment.items():
        seen = [Observation(host_id=host, verdict=PeerVerdict.TIMEOUT if host == DEAD else PeerVerdict.OK) for host in watched]
        if watcher != DEAD and DEAD in watched:
            effects += core.event(ev.ReportReceived(reporter_id=watcher, observations=tuple(seen)), now)
    effects += core.tick(now)
    assert fx.ProbeHost(host_id=DEAD) in effects
    core.event(ev.ProbeEnded(host_id=DEAD, verdict=PeerVerdict.TIMEOUT), now)

    assert core.state(DEAD) is HostState.SUSPECT
    assert [host for host in HOSTS if core.state(host) is not HostState.HEALTHY] == [DEAD]
