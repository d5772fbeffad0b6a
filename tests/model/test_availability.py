"""No VM is destroyed that need not be, and those of an isolated host are in time: with the real lease core and both profiles."""

from __future__ import annotations

from itertools import product

import pytest

from tests.model.availability import Cluster
from vmha.model import FAST_TIMERS, STANDARD_TIMERS, Timers

PROFILES = {"standard": STANDARD_TIMERS, "fast": FAST_TIMERS}
profiles = pytest.mark.parametrize("timers", PROFILES.values(), ids=PROFILES)


def steps(timers: Timers, seconds: float) -> int:
    return round(seconds / timers.tick_s)


def outage(timers: Timers, hosts: int, phases: tuple[int, ...], delays: tuple[float, ...], **changes: float) -> Cluster:
    """The manager dies and stays dead; the last ack of each host comes as late as `delays` says."""
    cluster = Cluster(timers, hosts, phases, **changes)
    dies_at = 4 * timers.heartbeat_interval_s
    late = dict(zip(cluster.hosts, delays, strict=True))
    cluster.manager = lambda _host, now: now < dies_at
    # Only the last one is late: an ack for a newer heartbeat would overtake it.
    last = {
        name: max(step for step in range(steps(timers, dies_at)) if (step + host.phase) % beat(timers) == 0)
        for name, host in cluster.hosts.items()
    }
    cluster.ack_delay = lambda host, _now: late[host] if cluster.steps == last[host] else 0.0
    cluster.run(dies_at + 6 * timers.lease_duration_s)
    return cluster


def beat(timers: Timers) -> int:
    return steps(timers, timers.heartbeat_interval_s)


@profiles
@pytest.mark.parametrize("hosts", [2, 3])
def test_a_manager_outage_destroys_no_vm(timers: Timers, hosts: int) -> None:
    """However heartbeats fall, however late the last acks come (up to D_ack): certificates hold before any lease ends."""
    phases = product((0, beat(timers) // 2), repeat=hosts)
    delays = list(product((0.0, timers.ack_max_age_s), repeat=hosts))
    for phase, delay in product(phases, delays):
        assert outage(timers, hosts, phase, delay).destroyed == {}


@profiles
def test_without_r4_a_late_ack_costs_others_their_vms(timers: Timers) -> None:
    """A peer that takes an old ack for news says for another T_attest that it hears the manager: R4 discards it as a whole."""
    late = (0.0, timers.lease_duration_s - timers.attest_after_s + timers.heartbeat_interval_s)

    assert outage(timers, 2, (0, 0), late).destroyed == {}
    assert "h0" in outage(timers, 2, (0, 0), late, ack_max_age_s=1e6).destroyed


@profiles
def test_without_i3_an_outage_destroys_vms(timers: Timers) -> None:
    """A lease that ends before the first certificate can be had."""
    short = timers.attest_after_s

    assert outage(timers, 2, (0, 0), (0.0, 0.0), lease_duration_s=short).destroyed


@profiles
def test_without_i5_an_outage_destroys_vms(timers: Timers) -> None:
    """A certificate that ends before the next one can be had."""
    short = timers.request_interval_s

    assert outage(timers, 3, (0, 0, 0), (0.0,) * 3, certificate_window_s=short).destroyed


@profiles
def test_agents_may_restart_while_the_manager_is_away(timers: Timers) -> None:
    """R9: what is on record lets a new agent process attest and hold its guard; without it nobody could vouch for anybody."""
    for remembers in (True, False):
        cluster = Cluster(timers, 3)
        cluster.run(4 * timers.heartbeat_interval_s)
        cluster.manager = lambda _host, _now: False
        for _ in range(12):
            cluster.run(cluster.now + timers.attest_after_s / 2)
            for name in cluster.hosts:
                cluster.restart_agent(name, remembers=remembers)
        assert (cluster.destroyed == {}) == remembers


@profiles
def test_a_host_without_a_link_of_its_own_lives_by_its_peers(timers: Timers) -> None:
    """Its heartbeats are carried on; it never comes near the end of its lease."""
    cluster = Cluster(timers, 2)
    cluster.manager = lambda host, _now: host != "h0"
    cluster.run(6 * timers.lease_duration_s)

    assert cluster.destroyed == {}


@profiles
def test_without_r7_contact_in_short_windows_costs_a_peer_its_vms(timers: Timers) -> None:
    """One message gets through now and then: bundled, it serves both hosts; else it is always the sender's own."""
    for bundled in (True, False):
        cluster = Cluster(timers, 2)
        cluster.bundled = bundled
        cluster.run(2 * timers.heartbeat_interval_s)
        cluster.manager = Windows(timers.attest_after_s * 0.8)
        cluster.run(6 * timers.lease_duration_s)
        assert (cluster.destroyed == {}) == bundled


class Windows:
    """h0 has no link of its own; of h1's messages the first in each period gets through."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._open_at = 0.0

    def __call__(self, host: str, now: float) -> bool:
        if host == "h0" or now < self._open_at:
            return False
        self._open_at = now + self._period_s
        return True


@profiles
@pytest.mark.parametrize("hosts", [2, 3])
def test_an_isolated_host_destroys_its_vms_in_time(timers: Timers, hosts: int) -> None:
    """Cut off from everything its guard ends T_self after its last acked heartbeat; T_kill more, and T_wait is not over."""
    cluster = Cluster(timers, hosts)
    cut_at = 4 * timers.heartbeat_interval_s + timers.tick_s
    cluster.manager = lambda host, now: host != "h0" or now < cut_at
    cluster.peers = lambda one, other, now: "h0" not in (one, other) or now < cut_at
    cluster.run(cut_at + 3 * timers.lease_duration_s)

    last_heard = 4 * timers.heartbeat_interval_s
    assert cluster.destroyed.keys() == {"h0"}
    kept_for = cluster.destroyed["h0"] - last_heard
    assert timers.lease_duration_s - timers.tick_s <= kept_for <= timers.lease_duration_s + timers.tick_s
    assert kept_for + timers.kill_timeout_s < timers.wait_duration_s
