"""Twenty real guests with rules of every kind, and an evacuator that is killed in the middle."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import demo_rules
from lab.demo_rules import Kind
from tests.e2e.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
MakeCluster = Callable[..., Cluster]
KINDS = (*demo_rules.KINDS, *(Kind(f"plain{i}", "", {}, "MOVED") for i in range(1, 11)))
"""Twenty of them on host1."""


@pytest.mark.parametrize("step", ["PLANNED", "CLAIMED", "STARTED", "ADMITTED", "SETTLED"])
def test_s07_twenty_guests_have_the_outcome_of_their_kind_after_a_crash(make_cluster: MakeCluster, step: str) -> None:
    """The evacuator dies right after it journaled a step; its successor gives each guest one outcome, and each runs once."""
    cluster = make_cluster(hosts=demo_rules.HOSTS, guests={}, aggregates=demo_rules.AGGREGATES, groups=demo_rules.GROUPS)
    stack, lab = cluster.stack, cluster.lab
    demo_rules.start_guests(stack, lab, KINDS)
    demo_rules.wait_settled(stack, KINDS)
    stack.end("evac")
    stack.start_process("evac", die_after=step)

    cut = cluster.kill("host1")
    lab.beats.made_anew("local1", cut)
    stack.wait(lambda: stack.processes["evac"].poll() is not None, 60, f"the evacuator died after {step}")
    stack.start_process("evac")
    demo_rules.wait_outcomes(stack, KINDS)

    running = sorted(name for host in ("host2", "host3", "host4") for name in cluster.running(host))
    assert running == sorted(kind.name for kind in KINDS if kind.outcome in {"MOVED", "REBUILT", ""})
    owners = cluster.owners()
    assert len({owners[name] for name in ("web1", "web2", "web3")}) == 3
    assert owners["db1"] == "host2"
