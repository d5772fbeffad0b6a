"""What is not a dead host: none of these evacuates anything, fences anything, or stops a guest."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lab import Lab
from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
MakeCluster = Callable[..., Cluster]
HOLD_S = 8.0
"""Three times what the fast profile needs to confirm and fence a host that is really dead."""

FAULTS: dict[str, Callable[[Lab], object]] = {
    "exporter killed": lambda lab: lab.host("host1").exporter_kill(),
    "libvirtd killed": lambda lab: lab.host("host1").libvirtd_kill(),
    "libvirtd hung": lambda lab: lab.host("host1").hang(),
    "agent killed": lambda lab: lab.host("host1").agent_kill(),
    "management link cut": lambda lab: lab.host("host1").cut("management"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_s05_a_fault_that_is_not_a_dead_host_evacuates_nothing(make_cluster: MakeCluster, fault: str) -> None:
    """The host's kernel and guests live: whatever else broke, nothing is confirmed, fenced or moved, and every guest beats on."""
    cluster = make_cluster()
    began = time.monotonic()

    FAULTS[fault](cluster.lab)
    cluster.hold(HOLD_S)

    cluster.assert_nothing_was_evacuated(began)


def test_s05_one_hung_guest_is_not_a_dead_host(make_cluster: MakeCluster) -> None:
    """One hung QEMU makes every scrape of its host take 30 s: degraded, not down; the other guests beat on."""
    cluster = make_cluster()
    began = time.monotonic()

    cluster.lab.host("host1").hang_guest("vm1")
    cluster.guests.pop("vm1")
    cluster.hold(HOLD_S)

    cluster.guests["vm1"] = "host1"
    cluster.assert_nothing_was_evacuated(began)


def test_an_agent_that_comes_back_is_healthy_again(make_cluster: MakeCluster) -> None:
    """Agent killed, host AGENT_LOST; agent started again, HEALTHY under the same incarnation, and its guests never noticed."""
    cluster = make_cluster()
    incarnation = cluster.stack.host("host1").incarnation
    began = time.monotonic()
    cluster.lab.host("host1").agent_kill()
    cluster.stack.wait_state("host1", "AGENT_LOST", 15)

    cluster.lab.host("host1").agent_start()
    cluster.stack.wait_state("host1", "HEALTHY", 15)

    assert cluster.stack.host("host1").incarnation == incarnation
    cluster.hold(1.0)
    cluster.assert_nothing_was_evacuated(began)
