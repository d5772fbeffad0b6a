"""Several managers, one decision (design section 7, R19): killed, frozen, and the store failing over beneath them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Lab
from lab.stack import Stack, running
from tests.e2e.cluster import Cluster
from tests.support.sentinel import Plant

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


@dataclass(kw_only=True)
class OnSentinel(Stack):
    """A stack whose Redis is a primary with a replica, watched by three Sentinels."""

    plant: Plant

    @property
    def redis_url(self) -> str:
        return self.plant.url

    def start_process(self, name: str, *, die_after: str = "") -> None:
        if name != "redis":
            super().start_process(name, die_after=die_after)


def test_a_failover_of_redis_in_an_evacuation_starts_nothing_twice(tmp_path: Path) -> None:
    """The primary is killed when the first guest is claimed: a replica takes over, every guest runs once, nobody is fenced."""
    plant = Plant(tmp_path)
    with ExitStack() as opened:
        opened.callback(plant.stop)
        plant.start()
        lab = opened.enter_context(Lab())
        stack = OnSentinel(lab=lab, fence=False, managers=2, timers={"learning_s": 2.0}, plant=plant)
        opened.enter_context(running(stack))
        cluster = Cluster(stack, lab, {"vm1": "host1", "vm2": "host1", "vm3": "host2"})
        cluster.settle()
        cut = cluster.kill("host1")
        stack.wait(lambda: any(seen.vm for seen in stack.events.all() if seen.at > cut), 40, "a guest is claimed")

        plant.kill("primary")

        cluster.wait_beats_after(["vm1", "vm2"], cut, 90)
        cluster.wait_still_beating(["vm3"], time.monotonic())
        lab.beats.check()
        running_now = [name for host in ("host2", "host3") for name in cluster.running(host)]
        assert sorted(running_now) == ["vm1", "vm2", "vm3"]
