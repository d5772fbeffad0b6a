"""Several managers, one decision (design section 7, R19): killed, frozen, and the store failing over beneath them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
MakeCluster = Callable[..., Cluster]

LEASE_S = 3.0
"""The leader's, with which these managers run."""


def test_r19_two_of_three_managers_die_during_an_evacuation(make_cluster: MakeCluster) -> None:
    """The leader is killed at DOWN, its successor at the next leadership: the third ends it, each guest runs once."""
    cluster = make_cluster(fence=False, managers=3, timers={"cooldown_s": 3.0})
    stack = cluster.stack
    cut = cluster.kill("host1")
    stack.wait_state("host1", "COOLDOWN", 15)

    first = stack.leader()
    stack.kill(first)
    stack.wait(lambda: stack.leader() not in {"", first}, 20, "another manager leads")
    second = stack.leader()
    stack.kill(second)

    cluster.wait_beats_after(["vm1", "vm2"], cut, 90)
    assert stack.leader() not in {first, second, ""}
    owners = cluster.owners()
    assert {owners["vm1"], owners["vm2"]} <= {"host2", "host3"}
    assert owners["vm3"] == "host2"
    cluster.wait_still_beating(["vm3"], time.monotonic())


def test_r19_a_manager_frozen_past_its_lease_acts_on_nothing(make_cluster: MakeCluster) -> None:
    """SIGSTOP through its lease, a host dies meanwhile, SIGCONT: the old leader decides nothing, the new one everything."""
    cluster = make_cluster(fence=False, managers=2)
    stack = cluster.stack
    old = stack.leader()
    stack.kill(old, signal.SIGSTOP)
    stack.wait(lambda: stack.leader() not in {"", old}, 30, "another manager leads")
    thawed = time.monotonic()

    stack.kill(old, signal.SIGCONT)
    cluster.hold(LEASE_S * 4)

    cluster.assert_nothing_was_evacuated(thawed)
    assert stack.leader() not in {"", old}
    cut = cluster.kill("host1")
    cluster.wait_beats_after(["vm1", "vm2"], cut, 60)


def test_a_take_over_fences_nobody(make_cluster: MakeCluster) -> None:
    """The leader is killed: agents find the other one within their lease, and no guest misses a beat."""
    cluster = make_cluster(fence=False, managers=2)
    stack = cluster.stack
    old = stack.leader()
    began = time.monotonic()

    stack.kill(old)
    stack.wait(lambda: stack.leader() not in {"", old}, 20, "another manager leads")
    cluster.hold(12.0)

    cluster.assert_nothing_was_evacuated(began)
