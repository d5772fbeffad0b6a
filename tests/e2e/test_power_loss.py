"""A host loses power: the main thing."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
MakeCluster = Callable[..., Cluster]


def test_s07_every_guest_of_a_dead_host_runs_elsewhere(make_cluster: MakeCluster) -> None:
    """Power loss: each guest of the dead host beats on another one, exactly one domain each, and the others are untouched."""
    cluster = make_cluster()
    cut = cluster.kill("host1")

    cluster.wait_beats_after(["vm1", "vm2"], cut)
    cluster.stack.wait_state("host1", "EVACUATED", 20)

    owners = cluster.owners()
    assert {owners["vm1"], owners["vm2"]} <= {"host2", "host3"}
    assert owners["vm3"] == "host2"
    places = [name for host in ("host2", "host3") for name in cluster.running(host)]
    assert sorted(places) == ["vm1", "vm2", "vm3"]
    told = ["SUSPECT", "DOWN", "FENCED", "EVACUATING", "EVACUATED"]
    # An event may come a moment after the state that it tells of can be read.
    cluster.stack.wait(
        lambda: [s for s in cluster.stack.events.states_of("host1", cut) if s in told] == told, 5, f"events tell of {told}"
    )


def test_s15_the_disk_continues_where_the_dead_host_left_it(make_cluster: MakeCluster) -> None:
    """The guest's own disk tells it its last beat before the power loss: the same VM, not a copy, was started."""
    cluster = make_cluster(guests={"vm1": "host1"})
    cut = cluster.kill("host1")

    cluster.wait_beats_after(["vm1"], cut)

    before, after = cluster.lab.beats.before("vm1", cut), cluster.lab.beats.after("vm1", cut)
    assert before is not None
    assert after is not None
    assert after.gen == before.gen + 1


def test_s06_a_host_that_returns_within_the_cooldown_restarts_its_own_guests(make_cluster: MakeCluster) -> None:
    """Back before the cooldown ends: nothing evacuated, guests that died with the host run again where they were."""
    cluster = make_cluster(timers={"cooldown_s": 20.0})
    cut = cluster.kill("host1")
    cluster.stack.wait_state("host1", "COOLDOWN", 15)

    cluster.lab.host("host1").on()
    cluster.wait_beats_after(["vm1", "vm2"], cut)
    cluster.stack.wait_state("host1", "HEALTHY", 15)

    cluster.assert_nothing_was_evacuated(cut)
    assert cluster.running("host1") == {"vm1", "vm2"}


def test_s08_a_host_that_returns_after_its_evacuation_gets_nothing_back(make_cluster: MakeCluster) -> None:
    """Nothing moves back, the returned host's stale domains are gone, and no guest runs twice."""
    cluster = make_cluster()
    cut = cluster.kill("host1")
    cluster.wait_beats_after(["vm1", "vm2"], cut)
    cluster.stack.wait_state("host1", "EVACUATED", 20)
    owners = cluster.owners()

    cluster.lab.host("host1").on()
    cluster.stack.wait_state("host1", "HEALTHY", 20)
    cluster.stack.wait(lambda: cluster.domains("host1") == set(), 15, "host1 has no stale domain")
    returned = time.monotonic()

    cluster.wait_still_beating(["vm1", "vm2", "vm3"], returned)
    assert cluster.owners() == owners
    assert cluster.running("host1") == set()


def test_s08_monitoring_goes_on_after_an_evacuation(make_cluster: MakeCluster) -> None:
    """A host that took guests over, and then dies itself, is evacuated too; the host that returned is a target again."""
    cluster = make_cluster(guests={"vm1": "host1"})
    cut = cluster.kill("host1")
    cluster.wait_beats_after(["vm1"], cut)
    cluster.stack.wait_state("host1", "EVACUATED", 20)
    cluster.lab.host("host1").on()
    cluster.stack.wait_state("host1", "HEALTHY", 20)

    second = cluster.owners()["vm1"]
    cut = cluster.kill(second)
    cluster.wait_beats_after(["vm1"], cut)

    assert cluster.owners()["vm1"] not in {second, ""}
