"""End-to-end tests: the product's real processes on the lab's real hosts, libvirtd, QEMU, Redis and fence agents.

Each test gets a cluster of its own and takes it down; no guest may ever beat backwards, which is checked after every test.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.stack import Stack, running
from tests.e2e.cluster import Cluster

QUICK_LEARNING_S = 2.0
LOG_LINES = 80
"""Of each service, and of the cluster's events, shown with a test that failed."""


MADE = pytest.StashKey[list[Cluster]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The lab takes its logs with it: what failed shows them before."""
    report = yield
    if report.when == "call" and report.failed:
        for cluster in item.stash.get(MADE, []):
            stack = cluster.stack
            events = [f"{seen.at:.2f} {' '.join(str(seen.event).split())}" for seen in stack.events.all()]
            report.sections.append(("events", "\n".join(events[-LOG_LINES:])))
            directory = Path(stack.lab.directory)
            for path in sorted([*directory.rglob("*.log"), *directory.rglob("agent.out")]):
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                report.sections.append((str(path.relative_to(stack.lab.directory)), "\n".join(lines[-LOG_LINES:])))
    return report


@pytest.fixture
def make_cluster(request: pytest.FixtureRequest) -> Iterator[Callable[..., Cluster]]:
    """A function that builds a settled cluster: hosts, guests (name -> host), timers and the rest of Stack's settings, as
    aggregates and groups."""
    with ExitStack() as opened:
        made: list[Cluster] = []
        request.node.stash[MADE] = made

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
