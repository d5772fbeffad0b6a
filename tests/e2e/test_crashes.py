"""Services killed -9 at the worst moments: every VM ends with exactly one outcome, none runs twice."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
MakeCluster = Callable[..., Cluster]

JOURNAL_STEPS = ["VERIFYING", "PLANNING", "RUNNING", "PLANNED", "CLAIMED", "STARTED", "ADMITTED", "SETTLED"]


@pytest.mark.parametrize("step", JOURNAL_STEPS)
def test_s07_an_evacuator_killed_at_any_step_resumes(make_cluster: MakeCluster, step: str) -> None:
    """The evacuator dies right after it journaled a step; its successor finishes: each VM has one outcome and runs once."""
    cluster = make_cluster()
    stack = cluster.stack
    stack.end("evac")
    stack.start_process("evac", die_after=step)
    cut = cluster.kill("host1")
    stack.wait(lambda: stack.processes["evac"].poll() is not None, 30, f"the evacuator died after {step}")

    stack.start_process("evac")
    cluster.wait_beats_after(["vm1", "vm2"], cut)
    stack.wait_state("host1", "EVACUATED", 30)

    outcomes = stack.outcomes("host1")
    assert outcomes == {"vm1": "MOVED", "vm2": "MOVED"}
    assert sorted(name for host in ("host2", "host3") for name in cluster.running(host)) == ["vm1", "vm2", "vm3"]


def test_s07_a_manager_killed_during_the_cooldown_goes_on(make_cluster: MakeCluster) -> None:
    """The suspicion outlives the manager: its successor learns, and confirms what is still dead."""
    cluster = make_cluster(timers={"cooldown_s": 5.0})
    cut = cluster.kill("host1")
    cluster.stack.wait_state("host1", "COOLDOWN", 15)

    cluster.stack.kill("manager")
    cluster.stack.start_process("manager")
    cluster.wait_beats_after(["vm1", "vm2"], cut)

    cluster.stack.wait_state("host1", "EVACUATED", 20)
    assert cluster.owners()["vm3"] == "host2"


def test_s06_a_host_that_returns_while_the_manager_is_away_is_not_evacuated(make_cluster: MakeCluster) -> None:
    """Manager killed in the cooldown, host back before its successor looks: a missing heartbeat of the past confirms nothing."""
    cluster = make_cluster(timers={"cooldown_s": 5.0})
    cut = cluster.kill("host1")
    cluster.stack.wait_state("host1", "COOLDOWN", 15)
    cluster.stack.kill("manager")

    cluster.lab.host("host1").on()
    cluster.stack.start_process("manager")
    cluster.wait_beats_after(["vm1", "vm2"], cut)

    cluster.stack.wait_state("host1", "HEALTHY", 15)
    cluster.assert_nothing_was_evacuated(cut)


def test_s07_a_manager_killed_during_an_evacuation_changes_nothing(make_cluster: MakeCluster) -> None:
    """The evacuator goes on without the manager, and its successor joins the same evacuation."""
    cluster = make_cluster()
    cut = cluster.kill("host1")
    # DOWN is said before the evacuator is asked: a manager that is killed in between has asked nobody.
    cluster.stack.wait(lambda: bool(cluster.stack.evacuations_of("host1")), 20, "the evacuation of host1 has begun")

    cluster.stack.kill("manager")
    cluster.wait_beats_after(["vm1", "vm2"], cut)
    cluster.stack.start_process("manager")

    cluster.stack.wait_state("host1", "EVACUATED", 30)
    assert len(cluster.stack.evacuations_of("host1")) == 1


def test_s29_a_store_that_is_away_for_a_minute_and_comes_back_empty_evacuates_nothing(make_cluster: MakeCluster) -> None:
    """redis-server stopped for 60 s and started empty: no guest misses a beat, nothing is confirmed, protection goes on."""
    cluster = make_cluster()
    began = time.monotonic()
    cluster.stack.end("redis")
    cluster.hold(60.0)

    cluster.stack.forget_store()
    cluster.stack.start_process("redis")
    cluster.stack.wait_settled(len(cluster.guests), 40)
    cluster.assert_nothing_was_evacuated(began)
    assert "STORE_LOST" in cluster.stack.events.alarms(began)

    cut = cluster.kill("host1")
    cluster.wait_beats_after(["vm1", "vm2"], cut)


def test_s29_a_host_that_dies_while_the_store_is_away_is_evacuated_when_it_is_back(make_cluster: MakeCluster) -> None:
    """Without the store nothing is decided; with it, with its contents, what is still dead is recovered."""
    cluster = make_cluster()
    cluster.stack.kill("redis", 19)
    cut = cluster.kill("host1")
    cluster.guests = {"vm3": "host2"}
    cluster.hold(6.0)
    assert not cluster.lab.beats.after("vm1", cut)

    cluster.stack.kill("redis", 18)
    cluster.wait_beats_after(["vm1", "vm2"], cut)
