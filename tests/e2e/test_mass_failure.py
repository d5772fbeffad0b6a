"""Half of a cluster is gone at once: that is a room without power, or a network in two. It is held until somebody knows (5.5)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
MakeCluster = Callable[..., Cluster]


def test_b03_half_of_six_hosts_lose_power_and_are_held(make_cluster: MakeCluster) -> None:
    """Three of six at once: an alarm says why, and nothing starts until the operator says that they are off.

    Which reason it is depends on whose third miss comes first: too many hosts are silent, or who says so is itself half cut off.
    """
    guests = {f"vm{i}": f"host{i}" for i in range(1, 7)}
    cluster = make_cluster(hosts=6, fence=False, guests=guests)
    stack = cluster.stack
    dead = ["host1", "host2", "host3"]
    cut = time.monotonic()
    for host_id in dead:
        cluster.lab.host(host_id).kill()

    reasons = {"MASS_FAILURE_HELD", "UNCONFIRMABLE"}
    stack.wait(lambda: bool(reasons & set(stack.events.alarms(cut))), 60, "the reason is told")
    held = time.monotonic()
    stack.wait(lambda: time.monotonic() > held + 16.0, 30, "more than T_wait has passed")
    assert cluster.owners() == guests
    assert not any(cluster.lab.beats.after(f"vm{i}", cut) for i in (1, 2, 3))
    cluster.wait_still_beating(["vm4", "vm5", "vm6"], time.monotonic())

    for host_id in dead:
        stack.vmha("host", "confirm-off", host_id, "--yes", "--operator", "night shift")
    cluster.wait_beats_after(["vm1", "vm2", "vm3"], cut, 90)
