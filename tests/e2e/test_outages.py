"""The control plane is gone, in whole or in part: no guest misses a beat, and what dies afterwards is evacuated.

There is no fence device.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
MakeCluster = Callable[..., Cluster]

LONGER_THAN_ANY_LEASE_S = 25.0
"""Fast profile: T_self + T_kill = 11.6 s, twice over."""
FIVE_MINUTES_S = 300.0
CONTROL_PLANE = ("manager", "evac", "redis")


def _outage(cluster: Cluster, lasts_s: float, *, restart_agents: bool) -> None:
    stack = cluster.stack
    began = time.monotonic()
    for name in CONTROL_PLANE:
        stack.kill(name)
    if restart_agents:
        # Within the lease: a process takes a second or two to start, and a certificate of the fast profile lasts 1.5 s.
        cluster.hold(1.0)
        for host in cluster.lab.hosts:
            host.agent_kill()
            host.agent_start()
    cluster.hold(lasts_s)
    for name in reversed(CONTROL_PLANE):
        stack.start_process(name)
    stack.wait_settled(len(cluster.guests), 90)
    cluster.hold(1.0)
    assert cluster.owners() == cluster.guests
    assert time.monotonic() - began > lasts_s

    cut = cluster.kill("host1")
    cluster.wait_beats_after(["vm1", "vm2"], cut)


@pytest.mark.parametrize("restart_agents", [False, True], ids=["agents run on", "agents restarted"])
def test_b02_an_outage_of_the_control_plane_costs_no_beat(make_cluster: MakeCluster, restart_agents: bool) -> None:
    """Manager, evacuator and Redis gone for longer than any lease; then a host loses power and is evacuated."""
    _outage(make_cluster(fence=False), LONGER_THAN_ANY_LEASE_S, restart_agents=restart_agents)


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("restart_agents", [False, True], ids=["agents run on", "agents restarted"])
def test_b02_five_minutes_without_a_control_plane_cost_no_beat(make_cluster: MakeCluster, restart_agents: bool) -> None:
    """The same for five minutes."""
    _outage(make_cluster(fence=False), FIVE_MINUTES_S, restart_agents=restart_agents)


def test_r20_a_store_that_is_flushed_in_the_cooldown_loses_no_guest(make_cluster: MakeCluster) -> None:
    """FLUSHALL while a host is suspected: nothing runs twice, healthy guests are untouched, the dead host's end is settled."""
    cluster = make_cluster(fence=False, timers={"cooldown_s": 6.0})
    cut = cluster.kill("host1")
    cluster.stack.wait_state("host1", "COOLDOWN", 15)

    cluster.stack.flush()

    cluster.stack.wait(lambda: "STORE_LOST" in cluster.stack.events.alarms(cut), 30, "the loss of the store is told")
    cluster.wait_still_beating(["vm3"], time.monotonic())
    cluster.stack.vmha("host", "confirm-off", "host1", "--yes", "--operator", "night shift")
    cluster.wait_still_beating(["vm3"], time.monotonic())


def test_r20_a_store_that_is_flushed_in_an_evacuation_starts_nothing_twice(make_cluster: MakeCluster) -> None:
    """FLUSHALL while guests are being started elsewhere: each guest beats once at most, those of healthy hosts go on."""
    cluster = make_cluster(fence=False)
    cut = cluster.kill("host1")
    cluster.stack.wait_state("host1", "EVACUATING", 40)

    cluster.stack.flush()

    cluster.stack.wait(lambda: "STORE_LOST" in cluster.stack.events.alarms(cut), 30, "the loss of the store is told")
    cluster.wait_still_beating(["vm3"], time.monotonic())
