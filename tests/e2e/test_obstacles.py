"""Targets that refuse, fences that fail, clusters that are full: nothing is lost, and it goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lab.bmc import FailMode
from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
MakeCluster = Callable[..., Cluster]


def test_s15_a_target_that_refuses_starts_is_passed_over(make_cluster: MakeCluster) -> None:
    """QEMU cannot start on one host: its guests come up on the other one, and no domain is left behind on the refuser."""
    cluster = make_cluster(guests={"vm1": "host1", "vm2": "host1"})
    cluster.lab.host("host2").exec("mount", "--bind", "/bin/false", "/usr/bin/qemu-system-x86_64")
    cut = cluster.kill("host1")

    cluster.wait_beats_after(["vm1", "vm2"], cut)
    cluster.stack.wait_state("host1", "EVACUATED", 20)

    assert cluster.running("host3") == {"vm1", "vm2"}
    assert cluster.domains("host2") == set()


@pytest.mark.parametrize("mode", ["error", "hang", "unreachable"])
def test_b01_without_proof_nothing_starts_and_with_it_everything_does(make_cluster: MakeCluster, mode: FailMode) -> None:
    """The fence device fails: FENCE_PENDING, an alarm, no guest elsewhere. It works again: the guests come up."""
    cluster = make_cluster(timers={"fence_timeout_s": 2.0, "fence_retry_s": 1.0})
    cluster.lab.fence.fail("host1", mode=mode)
    cut = cluster.kill("host1")
    cluster.stack.wait_state("host1", "FENCE_PENDING", 20)
    held = time.monotonic()
    cluster.stack.wait(lambda: time.monotonic() > held + 4, 10, "four seconds have passed")
    assert not cluster.lab.beats.after("vm1", cut)
    assert "FENCE_PENDING" in cluster.stack.events.alarms(cut)

    cluster.lab.fence.heal("host1")

    cluster.wait_beats_after(["vm1", "vm2"], cut)
    cluster.stack.wait_state("host1", "EVACUATED", 20)


def test_b01_an_operators_word_is_proof(make_cluster: MakeCluster) -> None:
    """No fence device at all: FENCE_PENDING until the operator confirms that the host is off."""
    cluster = make_cluster(fence=False)
    cut = cluster.kill("host1")
    cluster.stack.wait_state("host1", "FENCE_PENDING", 20)
    assert not cluster.lab.beats.after("vm1", cut)

    cluster.stack.vmha("host", "confirm-off", "host1", "--yes", "--operator", "night shift")

    cluster.wait_beats_after(["vm1", "vm2"], cut)


def test_b01_an_operators_word_about_a_living_host_is_refused(make_cluster: MakeCluster) -> None:
    """confirm-off of a host whose stream is fresh is refused with HOST_ALIVE, and nothing happens."""
    cluster = make_cluster(guests={"vm1": "host1"})

    done = cluster.stack.vmha("host", "confirm-off", "host1", "--yes", "--operator", "night shift", check=False)

    assert done.returncode == 1
    assert "HOST_ALIVE" in done.stderr
    assert cluster.running("host1") == {"vm1"}


def test_a_host_that_returns_without_having_been_fenced_keeps_its_guests(make_cluster: MakeCluster) -> None:
    """FENCE_PENDING, then the host is back with a new boot: the evacuation is cancelled and its guests run where they were."""
    cluster = make_cluster(fence=False)
    cut = cluster.kill("host1")
    cluster.stack.wait_state("host1", "FENCE_PENDING", 20)

    cluster.lab.host("host1").on()

    cluster.wait_beats_after(["vm1", "vm2"], cut)
    cluster.stack.wait_state("host1", "HEALTHY", 20)
    assert cluster.owners() == cluster.guests


def test_b04_what_has_no_room_waits_and_is_placed_when_room_appears(make_cluster: MakeCluster) -> None:
    """Only one other host, in maintenance: the guests stay PENDING; maintenance over: they are placed."""
    cluster = make_cluster(hosts=2, guests={"vm1": "host1"})
    cluster.stack.vmha("host", "maintenance", "on", "host2")
    cut = cluster.kill("host1")
    cluster.stack.wait(lambda: cluster.stack.outcomes("host1") == {"vm1": "PENDING"}, 30, "vm1 is pending")
    assert not cluster.lab.beats.after("vm1", cut)

    cluster.stack.vmha("host", "maintenance", "off", "host2")

    cluster.wait_beats_after(["vm1"], cut)
    cluster.stack.wait_state("host1", "EVACUATED", 20)
