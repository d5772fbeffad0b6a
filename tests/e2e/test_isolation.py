"""No fence device at all: the lease decides (docs/safety.md).

A host that is cut off has stopped its guests before they start elsewhere.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
MakeCluster = Callable[..., Cluster]

T_WAIT_S = 11.9
LEASE_ENDS_S = 7.6 + 4.0
"""Fast profile: T_self + T_kill after its last ack an isolated host runs no guest."""


def _isolate_and_check(cluster: Cluster, host_id: str) -> None:
    """Cuts a host from everything; its guests' last beats lie before the first beats elsewhere."""
    names = cluster.guests_of(host_id)
    beats = cluster.lab.beats
    boots = {name: beats.of(name)[-1].gen for name in names}
    cut = time.monotonic()
    cluster.lab.host(host_id).cut()

    cluster.wait_beats_after(names, cut)
    cluster.stack.wait_state(host_id, "EVACUATED", 20)

    for name in names:
        last_here = [beat.at for beat in beats.of(name) if beat.gen == boots[name]][-1]
        first_there = next(beat.at for beat in beats.of(name) if beat.gen > boots[name])
        assert last_here < cut + LEASE_ENDS_S
        assert last_here < first_there
        assert first_there > cut + T_WAIT_S - 1.0, "elsewhere before the lease can have ended"
    assert "FENCED" in cluster.stack.events.states_of(host_id, cut)


def test_r16_an_isolated_host_has_stopped_before_its_guests_start_elsewhere(make_cluster: MakeCluster) -> None:
    """Isolated from all: it destroys its guests, they come up elsewhere after T_wait, and when it returns nothing runs twice."""
    cluster = make_cluster(fence=False)

    _isolate_and_check(cluster, "host1")

    cluster.lab.host("host1").heal()
    cluster.stack.wait_state("host1", "HEALTHY", 30)
    cluster.stack.wait(lambda: cluster.domains("host1") == set(), 15, "host1 has no stale domain")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_r16_ten_isolations_in_a_row(make_cluster: MakeCluster) -> None:
    """Every run of ten: the last beat here lies before the first beat there."""
    cluster = make_cluster(fence=False)
    for number in range(10):
        host_id = f"host{number % 3 + 1}"
        cluster.guests = cluster.owners()
        _isolate_and_check(cluster, host_id)
        cluster.lab.host(host_id).heal()
        cluster.stack.wait_state(host_id, "HEALTHY", 30)
        cluster.stack.wait(lambda host_id=host_id: cluster.domains(host_id) == set(), 15, "no stale domain")  # type: ignore[misc]
        cluster.stack.wait_settled(len(cluster.guests))


def test_r07_a_host_without_its_management_link_lives_by_its_peers(make_cluster: MakeCluster) -> None:
    """Only the management link is cut: ISOLATED, heartbeats relayed, guests untouched past the end of any lease."""
    cluster = make_cluster(fence=False)
    began = time.monotonic()

    cluster.lab.host("host1").cut("management")
    cluster.stack.wait_state("host1", "ISOLATED", 20)
    cluster.hold(LEASE_ENDS_S + 4.0)

    cluster.assert_nothing_was_evacuated(began)
    cluster.lab.host("host1").heal("management")
    cluster.stack.wait_state("host1", "HEALTHY", 20)


def test_a_host_that_loses_power_is_evacuated_without_a_fence(make_cluster: MakeCluster) -> None:
    """Power loss, no device: the lease's end is the proof."""
    cluster = make_cluster(fence=False)
    cut = cluster.kill("host1")

    cluster.wait_beats_after(["vm1", "vm2"], cut)
    cluster.stack.wait_state("host1", "EVACUATED", 20)

    owners = cluster.owners()
    assert {owners["vm1"], owners["vm2"]} <= {"host2", "host3"}
    assert owners["vm3"] == "host2"


def test_an_agent_that_dies_costs_only_the_lease_rung(make_cluster: MakeCluster) -> None:
    """Its agent is killed, then the host is cut off: guests may still run there, so nothing starts elsewhere (design 5.3)."""
    cluster = make_cluster(fence=False)
    cluster.lab.host("host1").agent_kill()
    cluster.stack.wait_state("host1", "AGENT_LOST", 20)
    cut = time.monotonic()
    cluster.lab.host("host1").cut()

    cluster.stack.wait_state("host1", "FENCE_PENDING", 30)
    cluster.hold(T_WAIT_S + 4.0)

    assert not cluster.lab.beats.after("vm1", cut)
    assert cluster.owners() == cluster.guests


def test_r10_the_watchdog_acts_when_the_agent_stands_still(make_cluster: MakeCluster) -> None:
    """An agent frozen past its guard pets no watchdog: the host is reset in time, and no guest beats there any more."""
    cluster = make_cluster(fence=False, watchdog=True)
    beats = cluster.lab.beats
    boots = {name: beats.of(name)[-1].gen for name in ("vm1", "vm2")}
    cluster.stack.wait(lambda: cluster.stack.host("host1").watchdog, 10, "host1 has told of its watchdog")
    frozen = time.monotonic()

    cluster.lab.host("host1").signal("agent", signal.SIGSTOP)
    cluster.stack.wait(lambda: not cluster.lab.host("host1").is_on(), 30, "the watchdog has reset host1")

    for name, boot in boots.items():
        last_here = [beat.at for beat in beats.of(name) if beat.gen == boot][-1]
        assert last_here < frozen + LEASE_ENDS_S + 0.5
    cluster.wait_beats_after(["vm1", "vm2"], frozen)
