"""End-to-end tests: the product's real processes on the lab's real hosts, libvirtd, QEMU, Redis and fence agents.

Each test gets a cluster of its own and takes it down; no guest may ever beat backwards, which is checked after every test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lab import Lab
from lab.stack import Stack, running
from tests.e2e.cluster import Cluster

QUICK_LEARNING_S = 2.0


@pytest.fixture
def make_cluster() -> Iterator[Callable[..., Cluster]]:
    """A function that builds a settled cluster: hosts, guests (name -> host), timers and the rest of Stack's settings, as
    aggregates and groups."""
    with ExitStack() as opened:
        made: list[Cluster] = []

        def make(
            *,
            hosts: int = 3,
            guests: dict[str, str] | None = None,
            timers: dict[str, float] | None = None,
            profile: str = "fast",
            proof: str = "ladder",
            fence: bool = True,
            managers: int = 1,
            watchdog: bool = False,
            wishes: dict[str, dict[str, Any]] | None = None,
            **rules: Any,
        ) -> Cluster:
            lab = opened.enter_context(Lab())
            overrides = {"learning_s": QUICK_LEARNING_S, **(timers or {})}
            parts: dict[str, Any] = {"proof": proof, "fence": fence, "managers": managers, "watchdog": watchdog, **rules}
            stack = Stack(lab=lab, hosts=hosts, profile=profile, timers=overrides, **parts)
            opened.enter_context(running(stack))
            cluster = Cluster(stack, lab, guests if guests is not None else {"vm1": "host1", "vm2": "host1", "vm3": "host2"})
            cluster.settle(wishes)
            made.append(cluster)
            return cluster

        yield make
        for cluster in made:
            cluster.stack.lab.beats.check()
