"""What a cut-off host's agent does to real QEMU processes (docs/agent.md, "The guard")."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

LEASE_S, KILL_S = 7.6, 4.0
"""Fast profile: T_self, T_kill."""


def test_i6_a_hung_libvirtd_keeps_no_guest_of_a_cut_off_host_alive(make_cluster: Callable[..., Cluster]) -> None:
    """Cut off, and its libvirtd stands still: the guests' processes are killed within T_kill, before they start elsewhere."""
    cluster = make_cluster(fence=False)
    host, beats, names = cluster.lab.host("host1"), cluster.lab.beats, cluster.guests_of("host1")
    boots = {name: beats.of(name)[-1].gen for name in names}
    host.hang()
    cut = time.monotonic()
    host.cut()

    cluster.wait_beats_after(names, cut + LEASE_S + KILL_S)

    for name in names:
        last_here = [beat.at for beat in beats.of(name) if beat.gen == boots[name]][-1]
        first_there = next(beat.at for beat in beats.of(name) if beat.gen > boots[name])
        assert last_here < cut + LEASE_S + KILL_S
        assert last_here < first_there
    host.unhang()
