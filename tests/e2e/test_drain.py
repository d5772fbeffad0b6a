"""Drains by real live migration, and hosts that die in the middle of one (S14, S27, R22)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest
import redis

from lab.files import CLUSTER
from tests.e2e.cluster import Cluster
from vmha.agent.departures import DEPARTURES_NAME
from vmha.store import keys

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
MakeCluster = Callable[..., Cluster]

DRAIN_S = 120.0
SLOW_MIB_S = "1"
"""A guest has written some MiB: its memory takes seconds at this rate."""
LARGE_MIB = 4096
"""At that rate empty pages count as well: some ten seconds for so many."""


def start_drain(cluster: Cluster, host_id: str, *options: str) -> None:
    """Order a drain and leave it alone."""
    cluster.stack.vmha("host", "drain", host_id, "--no-wait", *options)


def wait_drained(cluster: Cluster, host_id: str) -> None:
    """Wait until no drain of a host is under way."""
    cluster.stack.wait(lambda: not cluster.stack.host(host_id).drain_id, DRAIN_S, f"the drain of {host_id} has ended")


def where(cluster: Cluster) -> dict[str, list[str]]:
    """Guest -> the hosts that have power and a QEMU process of it, asked of the kernel."""
    found: dict[str, list[str]] = {name: [] for name in cluster.guests}
    for host_id in cluster.stack.host_ids:
        host = cluster.lab.host(host_id)
        for name in host.guests() if host.is_on() else []:
            found[name].append(host_id)
    return found


def send(cluster: Cluster, name: str, source: str, target: str, *options: str) -> subprocess.Popen[bytes]:
    """A migration that somebody else begins, as a rebalancer would."""
    there = cluster.lab.host(target)
    command = ["virsh", "-q", "-c", cluster.lab.host(source).libvirt_uri, "migrate", "--live", "--p2p", "--persistent"]
    command += ["--undefinesource", "--unsafe", *options, name, there.libvirt_uri, f"tcp://{there.address}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def send_slowly(cluster: Cluster, name: str, source: str, target: str) -> subprocess.Popen[bytes]:
    """The same, and it takes seconds; returns when it has begun."""
    move = send(cluster, name, source, target, "--bandwidth", SLOW_MIB_S)
    cluster.stack.wait(lambda: name in cluster.domains(target), 20, f"{name} is coming in on {target}")
    return move


def test_s14_a_drain_of_ten_guests_loses_no_beat(make_cluster: MakeCluster) -> None:
    """All ten leave by live migration: no boot more, no beat missing; the one that its user paused arrives paused."""
    guests = {f"vm{number}": "host1" for number in range(1, 11)}
    cluster = make_cluster(guests={**guests, "still": "host1"})
    stack, beats = cluster.stack, cluster.lab.beats
    cluster.lab.host("host1").virsh("suspend", "still")
    boots = {name: beats.of(name)[-1].gen for name in guests}
    begin = {name: beats.of(name)[-1].beat for name in guests}

    start_drain(cluster, "host1")
    wait_drained(cluster, "host1")
    cluster.wait_still_beating(list(guests), time.monotonic(), 15.0)

    assert set(stack.outcomes("host1").values()) == {"MOVED"}
    assert cluster.domains("host1") == set()
    assert stack.host_state("host1") == "IN_MAINTENANCE"
    for name in guests:
        seen = [beat.beat for beat in beats.of(name) if beat.beat >= begin[name]]
        assert {beat.gen for beat in beats.of(name)} == {boots[name]}, name
        assert seen == list(range(begin[name], begin[name] + len(seen))), name
    owners = cluster.owners()
    assert {owners[name] for name in cluster.guests} <= {"host2", "host3"}
    assert cluster.lab.host(owners["still"]).virsh("domstate", "still").strip() == "paused"
    stack.wait(lambda: stack.vms()["still"].state == 2, 20, "the paused guest is shown as paused")
    assert stack.vmha("host", "drain", "host1").returncode == 0  # empty: nothing to do


def test_s14_a_host_killed_in_the_middle_of_its_drain(make_cluster: MakeCluster) -> None:
    """Some have left, some are on their way, some wait: each beats exactly once afterwards, and the drain ends."""
    cluster = make_cluster(guests={f"vm{number}": "host1" for number in range(1, 9)})
    stack = cluster.stack

    start_drain(cluster, "host1")
    stack.wait(lambda: "MOVED" in stack.outcomes("host1").values(), 60, "the first guest has moved")
    cluster.kill("host1")

    # What was on its way waits until its target's libvirt has noticed that nobody sends any more.
    dead = time.monotonic()
    cluster.wait_still_beating(list(cluster.guests), dead, 150.0)
    stack.wait(lambda: cluster.owners() == {name: hosts[0] for name, hosts in where(cluster).items()}, 30, "they are owned there")
    assert all(len(hosts) == 1 for hosts in where(cluster).values())
    wait_drained(cluster, "host1")


def test_s27_a_host_killed_in_the_middle_of_somebody_elses_migration(make_cluster: MakeCluster) -> None:
    """virsh sends a guest when its host loses power: that guest and its neighbour beat exactly once afterwards."""
    cluster = make_cluster(guests={"vm1": "host1", "vm2": "host1", "vm3": "host2"})
    move = send_slowly(cluster, "vm1", "host1", "host2")

    cut = cluster.kill("host1")
    move.kill()  # virsh itself would wait for its host for long
    move.wait(10)

    cluster.wait_beats_after(["vm1", "vm2"], cut, 150)
    stack = cluster.stack
    stack.wait(lambda: all(len(hosts) == 1 for hosts in where(cluster).values()), 30, "each guest has one host")
    cluster.wait_still_beating(["vm1", "vm2", "vm3"], time.monotonic(), 15.0)


def test_r22_a_guest_that_moved_while_no_manager_lived_beats_once(make_cluster: MakeCluster) -> None:
    """virsh sends it, then both its hosts lose power. Its old host is back first, and starts its other guest only: this one beats
    again, once, when its new host has told what became of it."""
    cluster = make_cluster(fence=False)
    stack, source, target = cluster.stack, cluster.lab.host("host1"), cluster.lab.host("host2")
    stack.kill("manager")
    assert send(cluster, "vm1", "host1", "host2").wait(60) == 0
    stack.wait((source.directory / "vmha" / DEPARTURES_NAME).exists, 10, "host1 has on its disk that vm1 left")

    cut = cluster.kill("host1")
    cluster.kill("host2")
    source.on()
    stack.start_process("manager")
    cluster.wait_beats_after(["vm2"], cut)
    assert source.guests() == ["vm2"]
    assert not cluster.lab.beats.after("vm1", cut)
    target.on()

    cluster.wait_beats_after(["vm1", "vm3"], cut)
    stack.wait(lambda: all(len(hosts) == 1 for hosts in where(cluster).values()), 30, "each guest has one host")
    cluster.wait_still_beating(["vm1", "vm2", "vm3"], time.monotonic(), 15.0)


def test_s27_a_drain_and_somebody_elses_migration_of_the_same_guest(make_cluster: MakeCluster) -> None:
    """The drain leaves a guest alone that another one is moving: it arrives where that one sent it, and the host is empty."""
    cluster = make_cluster(guests={"vm1": "host1", "vm2": "host1", "vm3": "host2"})
    boots = {name: cluster.lab.beats.of(name)[-1].gen for name in cluster.guests}
    move = send_slowly(cluster, "vm1", "host1", "host2")

    start_drain(cluster, "host1")
    assert move.wait(90) == 0
    wait_drained(cluster, "host1")

    assert cluster.domains("host1") == set()
    assert where(cluster)["vm1"] == ["host2"]
    cluster.wait_still_beating(list(cluster.guests), time.monotonic(), 15.0)
    assert {name: cluster.lab.beats.of(name)[-1].gen for name in cluster.guests} == boots


def redis_of(cluster: Cluster, guest: str) -> dict[str, str]:
    """A guest's record as it stands in Redis."""
    vm_id = cluster.stack.vms()[guest].vm_id
    with redis.Redis.from_url(cluster.stack.redis_url, decode_responses=True) as client:
        return dict(client.hgetall(keys.VM(CLUSTER, vm_id)))


def test_s14_a_drain_that_is_cancelled_in_the_middle_of_a_migration(make_cluster: MakeCluster) -> None:
    """The guest beats on where it was, in one place; its lock is free, its target keeps nothing; a second drain moves it."""
    cluster = make_cluster(guests={"vm1": "host1", "vm2": "host2"}, wishes={"vm1": {"memory_mib": LARGE_MIB}})
    stack, source = cluster.stack, cluster.lab.host("host1")
    boot = cluster.lab.beats.of("vm1")[-1].gen
    source.virsh("migrate-setspeed", "vm1", SLOW_MIB_S)
    start_drain(cluster, "host1")
    stack.wait(lambda: any("vm1" in cluster.domains(host) for host in ("host2", "host3")), 20, "vm1 is coming in elsewhere")
    assert redis_of(cluster, "vm1")["moving_to"] in {"host2", "host3"}

    stack.vmha("host", "drain", "host1", "--cancel")
    wait_drained(cluster, "host1")

    assert stack.outcomes("host1") == {"vm1": "SKIPPED"}
    assert where(cluster)["vm1"] == ["host1"]
    assert not any("vm1" in cluster.domains(host) for host in ("host2", "host3"))
    assert not {"lock_id", "moving_to", "moving_by"} & redis_of(cluster, "vm1").keys()
    stack.wait(lambda: stack.host_state("host1") == "HEALTHY", 20, "host1 is back in service")
    cluster.hold(3.0)

    source.virsh("migrate-setspeed", "vm1", "1000")
    start_drain(cluster, "host1")
    wait_drained(cluster, "host1")

    assert stack.outcomes("host1") == {"vm1": "MOVED"}
    assert cluster.domains("host1") == set()
    cluster.wait_still_beating(["vm1"], time.monotonic(), 15.0)
    assert {beat.gen for beat in cluster.lab.beats.of("vm1")} == {boot}


def test_s27_a_cancelled_drain_leaves_somebody_elses_migration_alone(make_cluster: MakeCluster) -> None:
    """It aborts what it sent itself: the guest that another one is moving arrives there, and beats on."""
    cluster = make_cluster(guests={"vm1": "host1", "vm2": "host2"}, wishes={"vm1": {"memory_mib": LARGE_MIB}})
    move = send_slowly(cluster, "vm1", "host1", "host2")
    start_drain(cluster, "host1")
    cluster.stack.wait(lambda: "vm1" in cluster.stack.outcomes("host1"), 20, "the drain has come to vm1")
    cluster.hold(1.0)

    cluster.stack.vmha("host", "drain", "host1", "--cancel")

    assert move.wait(90) == 0
    wait_drained(cluster, "host1")
    assert where(cluster)["vm1"] == ["host2"]
    cluster.wait_still_beating(["vm1"], time.monotonic(), 15.0)
